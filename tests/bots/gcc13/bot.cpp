// Counts: the count goes on where the last run ended.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>

static std::atomic<bool> told_to_end{false};

// The text between the quotes that follow "symbol": in a JSON object.
static std::string symbol(const std::string &config) {
  const auto name = config.find("\"symbol\"");
  if (name == std::string::npos) return "?";
  const auto begin = config.find('"', config.find(':', name)) + 1;
  return config.substr(begin, config.find('"', begin) - begin);
}

int main() {
  std::signal(SIGTERM, [](int) { told_to_end = true; });
  const std::string id = std::getenv("BOT_ID"), folder = std::getenv("STATE_DIR"), file = folder + "/count.json";
  std::filesystem::create_directories(folder);
  long count = 0;
  std::ifstream(file) >> count;
  std::cout << "bot " << id << " counts " << symbol(std::getenv("BOT_CONFIG")) << " from " << count << std::endl;
  while (!told_to_end) {
    std::ofstream(file) << ++count;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  std::cout << "bot " << id << " ends at " << count << std::endl;
  return 7;
}
