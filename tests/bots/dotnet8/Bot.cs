// Counts: the count goes on where the last run ended.
using System;
using System.IO;
using System.Text.RegularExpressions;
using System.Threading;

static class Bot {
  static readonly ManualResetEvent toldToEnd = new ManualResetEvent(false);
  static readonly ManualResetEvent ended = new ManualResetEvent(false);

  static void Main() {
    // The runtime raises this at SIGTERM, and ends the process when it returns.
    AppDomain.CurrentDomain.ProcessExit += (sender, arguments) => {
      toldToEnd.Set();
      ended.WaitOne();
      Environment.ExitCode = 7;
    };
    Count();
    ended.Set();
    Thread.Sleep(Timeout.Infinite);
  }

  static void Count() {
    string id = Environment.GetEnvironmentVariable("BOT_ID"), folder = Environment.GetEnvironmentVariable("STATE_DIR");
    string symbol = Regex.Match(Environment.GetEnvironmentVariable("BOT_CONFIG"), "\"symbol\"\\s*:\\s*\"([^\"]*)\"").Groups[1].Value;
    string file = Path.Combine(folder, "count.json");
    Directory.CreateDirectory(folder);
    long count = File.Exists(file) ? long.Parse(File.ReadAllText(file)) : 0;
    Console.WriteLine("bot " + id + " counts " + symbol + " from " + count);
    while (!toldToEnd.WaitOne(100)) {
      count += 1;
      File.WriteAllText(file, count.ToString());
    }
    Console.WriteLine("bot " + id + " ends at " + count);
  }
}
