package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// An authority signs what one cluster needs and writes it into a folder. The first error ends all that follows.
type authority struct {
	folder string
	cert   *x509.Certificate
	root   []byte
	key    *ecdsa.PrivateKey
	serial int64
	err    error
}

// certificates writes the keys, certificates and kubeconfigs of a cluster whose API server has the address server
// (its Service's too) and whose node has the name and address node.
func certificates(args []string) int {
	if len(args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: node certificates FOLDER API-ADDRESS NODE-ADDRESS")
		return 2
	}
	server, node := args[1], args[2]
	a := &authority{folder: args[0], err: os.MkdirAll(args[0], 0o700)}
	a.found()
	a.serve("apiserver", []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}, "127.0.0.1", server)
	a.serve("kubelet-serving", []string{"localhost"}, "127.0.0.1", node)
	a.client("apiserver-kubelet", "apiserver", "system:masters")
	a.accounts()
	a.kubeconfig(server, "admin", "admin", "system:masters")
	a.kubeconfig(server, "controller-manager", "system:kube-controller-manager")
	a.kubeconfig(server, "scheduler", "system:kube-scheduler")
	a.kubeconfig(server, "kubelet", "system:node:"+node, "system:nodes")
	if a.err != nil {
		fmt.Fprintln(os.Stderr, "certificates:", a.err)
		return 1
	}
	return 0
}

func (a *authority) write(name string, content []byte) {
	if a.err == nil {
		a.err = os.WriteFile(filepath.Join(a.folder, name), content, 0o600)
	}
}

func (a *authority) pem(name, kind string, der []byte) []byte {
	content := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	a.write(name, content)
	return content
}

func (a *authority) newKey(name string) (*ecdsa.PrivateKey, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // never seen: there is no randomness
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		panic(err)
	}
	return key, a.pem(name+".key", "EC PRIVATE KEY", der)
}

func (a *authority) template(name string, groups ...string) *x509.Certificate {
	a.serial++
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name, Organization: groups},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
}

func (a *authority) sign(name string, cert *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil && a.err == nil {
		a.err = err
	}
	return a.pem(name+".crt", "CERTIFICATE", der)
}

func (a *authority) found() {
	a.key, _ = a.newKey("ca")
	a.cert = a.template("the0-test-ca")
	a.cert.IsCA, a.cert.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	a.root = a.sign("ca", a.cert, a.key)
}

func (a *authority) issue(name string, cert *x509.Certificate, use x509.ExtKeyUsage) (signed, secret []byte) {
	key, secret := a.newKey(name)
	cert.ExtKeyUsage = []x509.ExtKeyUsage{use}
	return a.sign(name, cert, key), secret
}

func (a *authority) serve(name string, names []string, addresses ...string) {
	cert := a.template(name)
	cert.DNSNames = names
	for _, address := range addresses {
		cert.IPAddresses = append(cert.IPAddresses, net.ParseIP(address))
	}
	a.issue(name, cert, x509.ExtKeyUsageServerAuth)
}

func (a *authority) client(file, name string, groups ...string) (signed, secret []byte) {
	return a.issue(file, a.template(name, groups...), x509.ExtKeyUsageClientAuth)
}

// accounts makes the pair of keys that service accounts' tokens are signed and checked with.
func (a *authority) accounts() {
	key, _ := a.newKey("sa")
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil && a.err == nil {
		a.err = err
	}
	a.pem("sa.pub", "PUBLIC KEY", der)
}

func (a *authority) kubeconfig(server, file, name string, groups ...string) {
	signed, secret := a.client(file, name, groups...)
	base := base64.StdEncoding.EncodeToString
	a.write(file+".kubeconfig", fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: the0-test
contexts: [{name: the0-test, context: {cluster: the0-test, user: %[1]s}}]
clusters: [{name: the0-test, cluster: {server: "https://%[2]s", certificate-authority-data: %[3]s}}]
users: [{name: %[1]s, user: {client-certificate-data: %[4]s, client-key-data: %[5]s}}]
`, file, server, base(a.root), base(signed), base(secret)))
}
