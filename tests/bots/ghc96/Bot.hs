-- Counts: the count goes on where the last run ended.
module Main (main) where

import Control.Concurrent (threadDelay)
import Data.IORef (IORef, newIORef, readIORef, writeIORef)
import Data.List (isPrefixOf, tails)
import System.Directory (createDirectoryIfMissing, doesFileExist)
import System.Environment (getEnv)
import System.Exit (ExitCode (ExitFailure), exitWith)
import System.IO (BufferMode (LineBuffering), hSetBuffering, stdout)
import System.Posix.Signals (Handler (Catch), installHandler, sigTERM)

-- The text between the quotes that follow "symbol": in a JSON object.
symbol :: String -> String
symbol config = case filter (isPrefixOf "\"symbol\"") (tails config) of
  found : _ -> takeWhile (/= '"') (drop 1 (dropWhile (/= '"') (dropWhile (/= ':') found)))
  [] -> "?"

load :: FilePath -> IO Integer
load file = do
  there <- doesFileExist file
  if there then readFile file >>= \text -> length text `seq` return (read text) else return 0

countFrom :: IORef Bool -> FilePath -> Integer -> IO Integer
countFrom toldToEnd file count = do
  end <- readIORef toldToEnd
  if end
    then return count
    else do
      writeFile file (show (count + 1))
      threadDelay 100000
      countFrom toldToEnd file (count + 1)

main :: IO ()
main = do
  hSetBuffering stdout LineBuffering
  toldToEnd <- newIORef False
  _ <- installHandler sigTERM (Catch (writeIORef toldToEnd True)) Nothing
  bot <- getEnv "BOT_ID"
  folder <- getEnv "STATE_DIR"
  config <- getEnv "BOT_CONFIG"
  createDirectoryIfMissing True folder
  let file = folder ++ "/count.json"
  count <- load file
  putStrLn ("bot " ++ bot ++ " counts " ++ symbol config ++ " from " ++ show count)
  end <- countFrom toldToEnd file count
  putStrLn ("bot " ++ bot ++ " ends at " ++ show end)
  exitWith (ExitFailure 7)
