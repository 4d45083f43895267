/**
 * Runs inside the sandbox, beside an engine: starts it, asks it on loopback, passes questions and answers on over its own input and
 * output (sandbox/relay-wire.ts). Its arguments: the engine's port, its command and arguments. It ends when its input does, and
 * with the engine. It imports nothing but Node: in a container it is all there is of the agent.
 */
import { spawn } from "node:child_process";
import * as http from "node:http";

type Told =
  | { id: number; ask: { method: string; path: string; headers: Record<string, string>; body?: string } }
  | { id: number; say: "hold" | "go" | "cut" };

/** Base64 of a piece stays far below the length of line that the agent takes. */
const PIECE_BYTES = 256 * 1024;
const NOT_FOUND = 127;

const [port, command, ...args] = process.argv.slice(2);
const isWindows = process.platform === "win32";
/** In the relay's process group: who ends that ends the engine, and all that it started. */
const engine = spawn(command!, args, { stdio: ["ignore", 2, 2] });
const end = (code: number) => {
  engine.kill("SIGKILL");
  process.exit(code);
};
engine.on("error", (error) => {
  console.error(error.message);
  end(NOT_FOUND);
});
engine.on("exit", (code, signal) => {
  if (signal) console.error(`the engine ended with ${signal}`);
  end(code ?? 1);
});

const connections = new http.Agent({ keepAlive: true });
const asked = new Map<number, { request: http.ClientRequest; response?: http.IncomingMessage }>();
const tell = (words: object) => void process.stdout.write(`${JSON.stringify(words)}\n`);
process.stdout.on("error", () => end(0));

function ask(id: number, { method, path, headers, body }: Extract<Told, { ask: object }>["ask"]): void {
  const bytes = body === undefined ? undefined : Buffer.from(body);
  const length = bytes ? { "content-type": "application/json", "content-length": bytes.byteLength } : {};
  const options = {
    host: "127.0.0.1",
    port,
    method,
    path,
    agent: connections,
    headers: { ...length, ...headers },
  };
  const request = http.request(options, (response) => {
    const one = asked.get(id);
    if (!one) return void response.destroy();
    one.response = response;
    const told = Object.entries(response.headers).map(([name, value]) => [name, String(value)]);
    tell({ id, status: response.statusCode ?? 0, headers: Object.fromEntries(told) });
    response.on("data", (chunk: Buffer) => {
      for (let at = 0; at < chunk.byteLength; at += PIECE_BYTES)
        tell({ id, data: chunk.subarray(at, at + PIECE_BYTES).toString("base64") });
    });
    response.on("end", () => asked.delete(id) && tell({ id, end: true }));
    response.on("error", () => failed(id, "the engine broke off", false));
  });
  asked.set(id, { request });
  request.on("error", (error: NodeJS.ErrnoException) =>
    failed(id, error.message, error.code === "ECONNREFUSED"),
  );
  request.end(bytes);
}

function failed(id: number, error: string, refused: boolean): void {
  if (asked.delete(id)) tell({ id, error: error.slice(0, 500), refused });
}

function take(line: string): void {
  const told = JSON.parse(line) as Told;
  if ("ask" in told) return ask(told.id, told.ask);
  const one = asked.get(told.id);
  if (told.say === "hold") one?.response?.pause();
  if (told.say === "go") one?.response?.resume();
  if (told.say !== "cut") return;
  asked.delete(told.id);
  one?.request.destroy();
}

/** Node's own reader of lines takes other characters for their ends too. */
let rest: string[] = [];
process.stdin
  .setEncoding("utf8")
  .on("data", (text: string) => {
    const [first, ...more] = text.split("\n") as [string, ...string[]];
    rest.push(first);
    for (const next of more) {
      take(rest.join(""));
      rest = [next];
    }
  })
  .on("end", () => {
    if (!isWindows) process.kill(0, "SIGKILL"); // the whole group, this with it
    end(0);
  });
