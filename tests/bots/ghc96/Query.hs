-- Answers /count, on a port or, where it is asked one question, in a file.
module Main (main) where

import Control.Exception (IOException, finally, try)
import Control.Monad (forever, replicateM_)
import Data.Char (toLower)
import Data.List (isPrefixOf)
import Data.Maybe (fromMaybe)
import Network.Socket
import System.Directory (doesFileExist)
import System.Environment (getEnv, lookupEnv)
import System.Exit (ExitCode (..), exitWith)
import System.IO

count :: IO String
count = do
  file <- (++ "/count.json") <$> getEnv "STATE_DIR"
  there <- doesFileExist file
  if there then readFile file else return "0"

-- The lines of a request's head, without their ends.
headOf :: Handle -> IO [String]
headOf asker = do
  line <- takeWhile (/= '\r') <$> hGetLine asker
  if null line then return [] else (line :) <$> headOf asker

bodyLength :: [String] -> Int
bodyLength fields = sum [read (drop (length name) field) | field <- map (map toLower) fields, name `isPrefixOf` field]
  where name = "content-length: "

saidOf :: String -> IO (Bool, String)
saidOf path = do
  now <- count
  return $ if path == "/count"
    then (True, "{\"status\":\"ok\",\"data\":{\"count\":" ++ now ++ "}}")
    else (False, "{\"status\":\"error\",\"error\":\"No handler\"}")

answer :: Handle -> IO ()
answer asker = do
  fields <- headOf asker
  replicateM_ (bodyLength fields) (hGetChar asker)
  let target = takeWhile (`notElem` " ?") (drop 1 (dropWhile (/= ' ') (concat (take 1 fields))))
  (known, said) <- saidOf target
  let status = if known then "200 OK" else "404 Not Found"
      fixed = ["HTTP/1.1 " ++ status, "Content-Type: application/json", "Connection: close"]
      size = "Content-Length: " ++ show (length said)
  hPutStr asker (concatMap (++ "\r\n") (fixed ++ [size, ""]) ++ said)
  hFlush asker

main :: IO ()
main = do
  asked <- fromMaybe "" <$> lookupEnv "QUERY_PATH"
  if null asked then serve else do
    (known, said) <- saidOf asked
    writeFile "/query/result.json" said
    exitWith (if known then ExitSuccess else ExitFailure 1)

serve :: IO ()
serve = do
  port <- read . fromMaybe "9476" <$> lookupEnv "THE0_QUERY_PORT"
  listener <- socket AF_INET Stream defaultProtocol
  setSocketOption listener ReuseAddr 1
  bind listener (SockAddrInet (fromInteger port) (tupleToHostAddress (127, 0, 0, 1)))
  listen listener 16
  forever $ do
    (connection, _) <- accept listener
    asker <- socketToHandle connection ReadWriteMode
    -- One who has gone while it was answered is nobody's trouble.
    _ <- try (answer asker `finally` hClose asker) :: IO (Either IOException ())
    return ()
