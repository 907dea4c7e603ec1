// Unpacks a tar.gz with Go's own packages, as the platform's API reads a state.
package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	file, err := os.Open(os.Args[1])
	must(err)
	plain, err := gzip.NewReader(file)
	must(err)
	archive := tar.NewReader(plain)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(err)
		path := filepath.Join(os.Args[2], header.Name)
		if header.Typeflag == tar.TypeDir {
			must(os.MkdirAll(path, 0o755))
			continue
		}
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		out, err := os.Create(path)
		must(err)
		_, err = io.Copy(out, archive)
		must(err)
		must(out.Close())
	}
	rest, err := io.Copy(io.Discard, plain)
	must(err)
	if rest != 0 {
		panic("something follows the end of the archive")
	}
}
