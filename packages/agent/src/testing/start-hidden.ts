/** An agent that starts a hostile engine and says so: it is there to be killed. Settings and marker are its arguments. */
import { createNodeHost } from "../node-host.ts";
import { openSandbox } from "../sandbox/open.ts";
import { hide } from "./hostile.ts";

const [settings, marker] = process.argv.slice(2);
const sandbox = await openSandbox(createNodeHost(), JSON.parse(settings!));
const child = await sandbox.start({ helper: hide(marker!), args: [], env: {}, files: [], gpu: false });
for await (const _ of child.stdout) process.stdout.write("hidden\n");
