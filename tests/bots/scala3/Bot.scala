// Counts: the count goes on where the last run ended.
package bot

import java.nio.file.{Files, Path, Paths}
import java.util.concurrent.{CountDownLatch, TimeUnit}

object Main {
  private val toldToEnd = new CountDownLatch(1)
  private val ended = new CountDownLatch(1)

  private def count(file: Path): Long = if (Files.exists(file)) new String(Files.readAllBytes(file)).trim.toLong else 0

  def main(arguments: Array[String]): Unit = {
    val (id, folder) = (sys.env("BOT_ID"), Paths.get(sys.env("STATE_DIR")))
    val symbol = "\"symbol\"\\s*:\\s*\"([^\"]*)\"".r.findFirstMatchIn(sys.env("BOT_CONFIG")).map(_.group(1)).getOrElse("?")
    // The JVM runs this at SIGTERM, and would end with 143 after it.
    Runtime.getRuntime.addShutdownHook(new Thread {
      override def run(): Unit = {
        toldToEnd.countDown()
        ended.await()
        Runtime.getRuntime.halt(7)
      }
    })
    val file = folder.resolve("count.json")
    Files.createDirectories(folder)
    var now = count(file)
    println(s"bot $id counts $symbol from $now")
    while (!toldToEnd.await(100, TimeUnit.MILLISECONDS)) {
      now += 1
      Files.write(file, now.toString.getBytes)
    }
    println(s"bot $id ends at $now")
    ended.countDown()
  }
}
