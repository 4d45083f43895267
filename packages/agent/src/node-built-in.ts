/** The program of the built-in engine on Node. It ends when its input does: with the agent, whatever becomes of that. */
import { readLines } from "./body.ts";
import { createBuiltInProgram } from "./engines/built-in-program.ts";

// What a library prints is no statement.
const say = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr) as typeof process.stdout.write;
process.stdout.on("error", () => {}); // the agent has gone: the input ends too

/** The agent is who started this: what it says has been bounded by it. */
const unbounded = { lineBytes: Number.POSITIVE_INFINITY, streamBytes: Number.POSITIVE_INFINITY };
const take = createBuiltInProgram((line) => void say(`${line}\n`));
for await (const lines of readLines({ body: process.stdin }, unbounded))
  for (const line of lines) void take(line);
// At once: disposing of a model takes long, and the system does it better.
process.kill(process.pid, "SIGKILL");
