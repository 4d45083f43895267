/** `gfe service …`: runs the agent in the background from log-in on, when its owner asks for it. */

import { AgentError } from "../errors.ts";
import type { Host } from "../host.ts";
import { parseHubAddress } from "../hub-address.ts";
import { createHubRecords } from "../hub-records.ts";
import type { Program } from "../program.ts";
import { type Service, ServiceError, serviceOf } from "../service/service.ts";
import {
  type CommandRun,
  type CommandSpec,
  EXIT,
  type OptionSpec,
  type Output,
  optionKey,
} from "./command.ts";
import { agentCommands } from "./table.ts";

/** Of `gfe up`, those that say something while nobody looks. The token is not given on: it goes where no process list shows it. */
const NOT_GIVEN_ON = new Set(["token", "plain", "json", "scripted"]);
const PATHS = new Set(["model-path", "config-dir"]);
const UP = agentCommands.find(({ name }) => name === "up")!;
const GIVEN_ON = UP.options.filter(({ name }) => !NOT_GIVEN_ON.has(name)).map(asText);

/** Checked now, and handed on as it was written. */
function asText(option: OptionSpec): OptionSpec {
  const { read, many } = option;
  return {
    ...option,
    ...(many ? { fallback: [] } : {}),
    read(text, before) {
      read?.(text, many ? undefined : before);
      return many ? [...((before as string[] | undefined) ?? []), text] : text;
    },
  };
}

const one = (name: string, summary: string): CommandSpec => ({
  ...{ name: `service ${name}`, summary, options: [], examples: [`gfe service ${name}`] },
});

export const serviceCommands: readonly CommandSpec[] = [
  {
    name: "service",
    summary: "run the agent in the background, from log-in on: only if you want that",
    options: [],
    group: true,
    examples: [
      "gfe service install --hub https://hub.example.org",
      "gfe service status",
      "gfe service uninstall",
    ],
  },
  {
    name: "service install",
    summary: "make it a service of yours and start it; with other options again to change them",
    options: [
      ...GIVEN_ON.slice(0, 1),
      UP.options.find(({ name }) => name === "token")!,
      ...GIVEN_ON.slice(1),
    ],
    notes: `The options are those of \`gfe up\`. It is a service of your own user (systemd --user, a LaunchAgent, a task at log-on), never of root's.
A token that is given is kept in a file of mode 0600; without one, run \`gfe up\` once before and approve it in the browser.`,
    examples: [
      "gfe service install --hub https://hub.example.org",
      "gfe service install --hub https://hub.example.org --updates auto --slots 2",
    ],
  },
  one("status", "whether it is there, and runs"),
  one("start", "start it now"),
  one("stop", "let running answers end and stop it, until the next log-in"),
  one("uninstall", "stop and remove the service; the agent itself stays"),
];

/** What they do, for the program that a service would start. */
export function serviceRuns(program: Program): Readonly<Record<string, CommandRun>> {
  const run =
    (act: (service: Service, host: Host, options: Options, out: Output) => Promise<number>): CommandRun =>
    async (host, options, out) => {
      try {
        return await act(serviceOf(host), host, options, out);
      } catch (error) {
        if (!(error instanceof ServiceError || error instanceof AgentError)) throw error;
        out.error(`gfe: ${error.message}`);
        return EXIT.failed;
      }
    };
  /** Only where it is there. */
  const of = (act: (service: Service, out: Output) => Promise<number>) =>
    run(async (service, _host, _options, out) => {
      if (await service.installed()) return act(service, out);
      out.error("gfe: there is no service: `gfe service install` makes one");
      return EXIT.notRunning;
    });
  return {
    "service install": run((service, host, options, out) => install(program, service, host, options, out)),
    "service status": of(async (service, out) => {
      const { running, detail } = await service.status();
      out.line(`The service is ${detail}.`);
      return running ? EXIT.fine : EXIT.notRunning;
    }),
    "service start": of(async (service, out) => {
      await service.start();
      out.line("Started.");
      return EXIT.fine;
    }),
    "service stop": of(async (service, out) => {
      await service.stop();
      out.line("Stopped.");
      return EXIT.fine;
    }),
    "service uninstall": of(async (service, out) => {
      await service.uninstall();
      for (const path of service.paths) out.line(`Removed ${path}`);
      return EXIT.fine;
    }),
  };
}

type Options = Readonly<Record<string, unknown>>;

async function install(
  program: Program,
  service: Service,
  host: Host,
  options: Options,
  out: Output,
): Promise<number> {
  if (program.command.some((word) => /[\\/]_npx[\\/]/.test(word)))
    throw new ServiceError(
      "npx keeps its programs for a while only: npm install -g gpu-for-everyone, then gfe service install",
    );
  const { origin } = parseHubAddress(options.hub as string);
  const token = options.token as string | undefined;
  if (token === undefined && (await createHubRecords(host).get(origin)).agentToken === undefined)
    throw new ServiceError(
      `nobody has approved this machine at ${origin}: run \`gfe up --hub ${origin}\` once, or give --token`,
    );
  await service.install([...program.command, "up", "--plain", ...givenOn(options)], token);
  out.line("The service is installed and started; it comes back at each log-in.");
  for (const path of service.paths) if (await host.files.facts(path)) out.line(`Made      ${path}`);
  out.line("Look      gfe status, gfe logs -f");
  out.line("Remove    gfe service uninstall");
  for (const hint of service.hints) out.line(hint);
  return EXIT.fine;
}

/** The options as `gfe up` is given them; what is as it would be anyway is left out. */
function givenOn(options: Options): string[] {
  return GIVEN_ON.flatMap(({ name, value, fallback }) => {
    const given = options[optionKey(name)];
    if (value === undefined) return given === !name.startsWith("no-") ? [`--${name}`] : [];
    if (given === undefined || (given === fallback && name !== "hub")) return [];
    if (PATHS.has(name) && !/^([/\\]|[A-Za-z]:[/\\])/.test(String(given)))
      throw new ServiceError(`--${name}: give the whole path, a service starts elsewhere than you are now`);
    return [given].flat().flatMap((text) => [`--${name}`, String(text)]);
  });
}
