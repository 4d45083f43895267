/** The full executable's program: what providers and consumers do. A hub is run from its sources or its container. */
import { agentProgram } from "./agent-program.ts";

await agentProgram().parseAsync();
