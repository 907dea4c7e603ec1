// Answers /count, on a port or, where it is asked one question, in a file.
using System;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;

static class Query {
  static int Main() {
    var path = Environment.GetEnvironmentVariable("QUERY_PATH");
    if (!string.IsNullOrEmpty(path)) {
      File.WriteAllText("/query/result.json", Said(path == "/count"));
      return path == "/count" ? 0 : 1;
    }
    var port = int.Parse(Environment.GetEnvironmentVariable("THE0_QUERY_PORT") ?? "9476");
    var listener = new TcpListener(IPAddress.Loopback, port);
    listener.Start();
    for (;;) {
      using (var client = listener.AcceptTcpClient()) {
        try {
          Answer(client.GetStream());
        } catch (IOException) {
          // The asker has gone.
        }
      }
    }
  }

  static void Answer(Stream stream) {
    var reader = new StreamReader(stream, Encoding.ASCII);
    var target = (reader.ReadLine() ?? "").Split(' ');
    var body = 0;
    for (var line = reader.ReadLine(); !string.IsNullOrEmpty(line); line = reader.ReadLine()) {
      if (line.StartsWith("content-length:", StringComparison.OrdinalIgnoreCase)) body = int.Parse(line.Substring(15));
    }
    for (; body > 0; body--) reader.Read();
    var known = target.Length > 1 && target[1].Split('?')[0] == "/count";
    var said = Said(known);
    var head = "HTTP/1.1 " + (known ? "200 OK" : "404 Not Found") + "\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ";
    var bytes = Encoding.ASCII.GetBytes(head + said.Length + "\r\n\r\n" + said);
    stream.Write(bytes, 0, bytes.Length);
  }

  static string Said(bool known) {
    return known ? "{\"status\":\"ok\",\"data\":{\"count\":" + Count() + "}}" : "{\"status\":\"error\",\"error\":\"No handler\"}";
  }

  static string Count() {
    var file = Path.Combine(Environment.GetEnvironmentVariable("STATE_DIR"), "count.json");
    return File.Exists(file) ? File.ReadAllText(file) : "0";
  }
}
