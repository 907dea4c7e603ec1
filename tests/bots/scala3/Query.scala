// Answers /count, on a port or, where it is asked one question, in a file.
package query

import java.io.{BufferedReader, InputStreamReader, IOException}
import java.net.{InetAddress, ServerSocket, Socket}
import java.nio.file.{Files, Paths}

object Main {
  private def count: String = {
    val file = Paths.get(sys.env("STATE_DIR"), "count.json")
    if (Files.exists(file)) new String(Files.readAllBytes(file)) else "0"
  }

  private def said(path: Option[String]): (Boolean, String) =
    if (path.contains("/count")) (true, s"""{"status":"ok","data":{"count":$count}}""")
    else (false, """{"status":"error","error":"No handler"}""")

  private def answer(socket: Socket): Unit = {
    val reader = new BufferedReader(new InputStreamReader(socket.getInputStream))
    val target = Option(reader.readLine()).getOrElse("").split(' ').lift(1).map(_.takeWhile(_ != '?'))
    val head = Iterator.continually(reader.readLine()).takeWhile(line => line != null && line.nonEmpty).map(_.toLowerCase)
    val body = head.filter(_.startsWith("content-length:")).map(_.drop(15).trim.toInt).sum
    (0 until body).foreach(_ => reader.read())
    val (known, text) = said(target)
    val status = if (known) "200 OK" else "404 Not Found"
    val lines = Seq(s"HTTP/1.1 $status", "Content-Type: application/json", "Connection: close", s"Content-Length: ${text.length}", "", text)
    socket.getOutputStream.write(lines.mkString("\r\n").getBytes)
  }

  def main(arguments: Array[String]): Unit = {
    sys.env.get("QUERY_PATH").filter(_.nonEmpty).foreach { path =>
      val (known, text) = said(Some(path))
      Files.write(Paths.get("/query/result.json"), text.getBytes)
      sys.exit(if (known) 0 else 1)
    }
    val port = sys.env.getOrElse("THE0_QUERY_PORT", "9476").toInt
    val listener = new ServerSocket(port, 16, InetAddress.getLoopbackAddress)
    while (true) {
      val socket = listener.accept()
      try answer(socket)
      catch { case _: IOException => () } // the asker has gone
      finally socket.close()
    }
  }
}
