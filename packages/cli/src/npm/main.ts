/** The npm package's `gfe`. Runs on Node from 20 on. */
import "./old-node.ts";
import { agentProgram } from "../agent-program.ts";

await agentProgram().parseAsync();
