// Answers /count, on a port or, where it is asked one question, in a file.
#include <arpa/inet.h>
#include <cstdlib>
#include <fstream>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

// Reads a request to the end of its body: who closes a connection with something unread in it resets it.
static std::string receive(int connection) {
  const std::string end = "\r\n\r\n", field = "content-length: ";
  std::string got;
  char buffer[4096];
  for (ssize_t n = 1; n > 0;) {
    const auto head = got.find(end), length = got.find(field);
    const size_t body = length < head ? std::strtoul(got.c_str() + length + field.size(), nullptr, 10) : 0;
    if (head != std::string::npos && got.size() >= head + end.size() + body) break;
    n = read(connection, buffer, sizeof buffer);
    if (n > 0) got.append(buffer, n);
  }
  return got;
}

static std::string said(bool known) {
  long count = 0;
  std::ifstream(std::string(std::getenv("STATE_DIR")) + "/count.json") >> count;
  return known ? "{\"status\":\"ok\",\"data\":{\"count\":" + std::to_string(count) + "}}" : "{\"status\":\"error\",\"error\":\"No handler\"}";
}

static std::string answer(const std::string &request) {
  const bool known = request.find(" /count") != std::string::npos;
  const std::string body = said(known);
  return std::string("HTTP/1.1 ") + (known ? "200 OK" : "404 Not Found") + "\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

int main() {
  const char *path = std::getenv("QUERY_PATH");
  if (path && *path) {
    const bool known = std::string(path) == "/count";
    std::ofstream("/query/result.json") << said(known);
    return known ? 0 : 1;
  }
  const char *port = std::getenv("THE0_QUERY_PORT");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port ? std::atoi(port) : 9476);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0 || listen(listener, 16) != 0) return 1;
  for (;;) {
    const int connection = accept(listener, nullptr, nullptr);
    if (connection < 0) continue;
    const auto said = answer(receive(connection));
    if (write(connection, said.data(), said.size()) < 0) { /* the asker has gone */ }
    close(connection);
  }
}
