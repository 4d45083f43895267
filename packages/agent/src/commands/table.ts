/** The provider's commands, as data. What each does is in run.ts; only `up` is each program's own. */
import { SANDBOX_KINDS } from "../sandbox/sandbox.ts";
import { updateModes } from "../update/machine.ts";
import type { CommandSpec, OptionSpec } from "./command.ts";
import {
  dataPolicies,
  readAliases,
  readBytes,
  readDuration,
  readLimit,
  readPositive,
  readPrice,
  readRegion,
  readSlotLimits,
  readSwitch,
} from "./read.ts";

const CONFIG_DIR: OptionSpec = {
  name: "config-dir",
  value: "dir",
  meaning: "where the node's key and state are kept, instead of the XDG directories",
};

const JSON_OBJECT: OptionSpec = { name: "json", meaning: "one JSON object" };
const OF_ONE = [JSON_OBJECT, CONFIG_DIR] as const;

const HUB: OptionSpec = {
  name: "hub",
  value: "url",
  meaning: "the hub",
  env: "GFE_HUB",
  fallback: "http://127.0.0.1:8080",
};
const KNOWN_HUB: OptionSpec = {
  name: "hub",
  value: "url",
  meaning: "the hub; that of the running agent, or the only known one, if not given",
  env: "GFE_HUB",
};
const TOKEN: OptionSpec = {
  name: "token",
  value: "token",
  meaning: "agent token, for machines without a browser near; better in the environment",
  env: "GFE_AGENT_TOKEN",
};

/** Engines that it starts itself, and what confines them. */
const STARTED: readonly OptionSpec[] = [
  {
    name: "engine-command",
    fullOnly: true,
    value: "command",
    meaning:
      "start this engine and keep it running: '/opt/llama-server -m /models/a.gguf', 'ollama serve', or any other with {port} where its port belongs",
  },
  {
    fullOnly: true,
    name: "engine-image",
    value: "image",
    meaning: "the image in which Podman or Docker finds that engine",
  },
  {
    name: "engine-read",
    fullOnly: true,
    value: "path",
    meaning: "a file or folder that the engine reads beside those its command names; may be repeated",
    many: true,
    fallback: [],
    read: (path, paths) => [...(paths as string[]), path],
  },
  {
    name: "engine-memory",
    fullOnly: true,
    value: "size",
    meaning:
      "most memory of an engine that it starts: 800M, 12G; three quarters of this machine's unless given",
    read: readBytes,
  },
  {
    name: "sandbox",
    fullOnly: true,
    value: "kind",
    meaning:
      "what confines engines that it starts: bubblewrap on Linux unless given; never none unless you say so",
    env: "GFE_SANDBOX",
    choices: SANDBOX_KINDS,
  },
  { fullOnly: true, name: "runtime", value: "name", meaning: "the containers' runtime; runsc is gVisor" },
];

const UP: CommandSpec = {
  name: "up",
  summary: "share this machine's engines through a hub and earn",
  options: [
    HUB,
    TOKEN,
    {
      name: "model-path",
      value: "gguf",
      meaning: "run this model on the built-in engine",
      env: "GFE_MODEL",
      fullOnly: true,
    },
    ...STARTED,
    {
      name: "model",
      value: "name",
      meaning:
        "serve this pulled model on the built-in engine; may be repeated. Where no engine is found, all of them that fit are served",
      many: true,
      fallback: [],
      read: (name, names) => [...(names as string[]), name],
      fullOnly: true,
    },
    {
      name: "engine",
      value: "url",
      meaning: "an engine at an unusual address; may be repeated",
      many: true,
      fallback: [],
      read: (url, urls) => [...(urls as string[]), url],
    },
    { name: "no-detect", meaning: "do not look for engines at their usual ports" },
    { name: "no-benchmark", meaning: "do not measure how fast models are when they are first seen" },
    { name: "slots", value: "n", meaning: "answers at once, over all models", read: readPositive },
    {
      name: "engine-slots",
      value: "engine=n",
      meaning:
        "answers at once with one model of an engine, such as ollama=2 or http://127.0.0.1:8080=4; may be repeated, or several with commas",
      env: "GFE_ENGINE_SLOTS",
      many: true,
      read: readSlotLimits,
    },
    { name: "name", value: "name", meaning: "the node's name; this machine's if not given" },
    {
      name: "price",
      value: "price",
      meaning:
        "in credits: 0.5 is per request; request=0,in=0.2,cached=0.05,out=0.6,min=0.01,batch=50 names parts: per request, per million tokens (cached: input from the engine's cache), the least for an answer, percent off for batch work. `gfe price` overrides it",
      read: readPrice,
    },
    {
      name: "region",
      value: "region",
      meaning: "where this machine stands, such as de or eu-west; consumers may ask for it",
      env: "GFE_REGION",
      read: readRegion,
    },
    {
      name: "data-policy",
      value: "policy",
      meaning:
        "what you say of prompts and answers: none is kept, or this machine retains some. Consumers who allow no data collection reach only none",
      env: "GFE_DATA_POLICY",
      choices: dataPolicies,
    },
    {
      name: "alias",
      value: "name=model",
      meaning: "another name for a model; may be repeated, or several with commas",
      env: "GFE_ALIASES",
      many: true,
      read: readAliases,
    },
    {
      name: "scripted",
      meaning: "serve a scripted engine, labelled as such, that runs no model",
    },
    CONFIG_DIR,
    {
      name: "updates",
      value: "mode",
      meaning:
        "auto: new versions replace this one, when running answers have ended; notify: they are told of; off: nobody looks",
      env: "GFE_UPDATES",
      choices: updateModes,
      fallback: "notify",
    },
    { name: "plain", meaning: "lines instead of the live panel" },
    { name: "json", meaning: "one JSON object a line for each event" },
  ],
  notes: `In a terminal it shows a live panel; ? tells its keys. Elsewhere, with --plain or with TERM=dumb it writes lines; NO_COLOR
leaves colours out.
Ctrl-C lets running answers end first; a second Ctrl-C stops at once.

Traces of attempts go to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names, if it is set: docs/tracing.md.`,
  examples: [
    "gfe up --hub https://hub.example.org",
    "gfe up --model qwen2.5-0.5b-instruct-q4_k_m",
    "gfe up --model-path ./model.gguf --price request=0,in=0.2,out=0.6",
    "gfe up --model-path ./model.gguf --engine-memory 12G --sandbox podman --runtime runsc",
    "GFE_AGENT_TOKEN=gfe_at_… gfe up --plain",
  ],
};

const STATUS: CommandSpec = {
  name: "status",
  summary: "what the running agent does: state and reason, models, running answers, earnings",
  options: [...OF_ONE],
  notes: "Exit status 3 where no agent runs.",
  examples: ["gfe status", "gfe status --json"],
};

const LOGS: CommandSpec = {
  name: "logs",
  summary: "what happened on this node: never prompts, answers or secrets",
  options: [
    { name: "follow", short: "f", meaning: "go on with what happens from now on" },
    {
      name: "lines",
      short: "n",
      value: "n",
      meaning: "how many of the last lines",
      fallback: 50,
      read: readPositive,
    },
    { name: "json", meaning: "one JSON object a line, as they are kept" },
    CONFIG_DIR,
  ],
  notes: "They are kept in the agent's state directory, the last 2 MiB of them, also when no agent runs.",
  examples: ["gfe logs", "gfe logs -f", "gfe logs -n 500 --json"],
};

const PAUSE: CommandSpec = {
  name: "pause",
  summary:
    "serve nobody for a while: what runs ends or goes on at other nodes, the models leave the GPU's memory",
  arguments: [
    {
      name: "time",
      meaning: "how long, such as 10m or 1h30m; until `gfe resume` if not given",
      read: readDuration,
    },
  ],
  options: [...OF_ONE],
  examples: ["gfe pause", "gfe pause 10m"],
};

const RESUME: CommandSpec = {
  name: "resume",
  summary: "end a pause; other reasons not to serve, such as the schedule, stay",
  options: [...OF_ONE],
  examples: ["gfe resume"],
};

const DRAIN: CommandSpec = {
  name: "drain",
  summary: "let running answers end, take no more, then end the agent",
  options: [{ name: "now", meaning: "abort what runs instead of letting it end" }, ...OF_ONE],
  examples: ["gfe drain", "gfe drain --now"],
};

const LIMITS: CommandSpec = {
  name: "limits",
  summary: "what this machine gives at most: shows the limits, or sets those that are named",
  options: [
    { name: "slots", value: "n", meaning: "answers at once", read: readLimit(1, 256) },
    {
      name: "engine-slots",
      value: "engine=n",
      meaning: "answers at once with one model of an engine, such as ollama=2,http://127.0.0.1:8080=4",
      many: true,
      read: (text, before) =>
        text === "off" ? text : readSlotLimits(text, before === "off" ? undefined : before),
    },
    {
      name: "temperature",
      value: "celsius",
      meaning: "pause while a GPU is hotter than this",
      read: readLimit(30, 120),
    },
    {
      name: "power",
      value: "watts",
      meaning: "pause while the GPUs take more than this",
      read: readLimit(10, 20_000),
    },
    {
      name: "memory",
      value: "percent",
      meaning: "pause while other programs use more than this of the GPUs' memory",
      read: readLimit(1, 100),
    },
    { name: "hours", value: "n", meaning: "hours of serving a day", read: readLimit(1, 24) },
    {
      name: "keyboard",
      value: "minutes",
      meaning: "pause until nobody was at the keyboard or mouse for so long",
      read: readLimit(0.1, 1440),
    },
    {
      name: "games",
      value: "on|off",
      meaning: "pause while a game or the like uses the GPU",
      read: readSwitch,
    },
    { name: "battery", value: "on|off", meaning: "pause while on battery", read: readSwitch },
    { name: "metered", value: "on|off", meaning: "pause on a metered network", read: readSwitch },
    ...OF_ONE,
  ],
  notes:
    "`off` takes a limit away. They are kept, and hold for a running agent at once. What tells of which: docs/guest.md.",
  examples: [
    "gfe limits",
    "gfe limits --slots 2 --temperature 80",
    "gfe limits --hours off --keyboard 10 --battery off",
  ],
};

const SCHEDULE: readonly CommandSpec[] = [
  {
    name: "schedule",
    summary: "when this machine serves: always, or within windows",
    options: [],
    group: true,
    examples: [
      "gfe schedule add mon-fri 22:00-07:00",
      "gfe schedule add sat,sun 00:00-24:00",
      "gfe schedule clear",
    ],
  },
  {
    name: "schedule list",
    summary: "the windows in force",
    options: [...OF_ONE],
    isDefault: true,
    examples: ["gfe schedule", "gfe schedule list --json"],
  },
  {
    name: "schedule add",
    summary: "serve within this window, too; the first one ends serving outside of it",
    arguments: [
      { name: "days", meaning: "mon-fri, sat,sun or daily", required: true },
      {
        name: "hours",
        meaning: "such as 22:00-07:00, by this machine's clock; past midnight is fine",
        required: true,
      },
    ],
    options: [...OF_ONE],
    examples: ["gfe schedule add mon-fri 22:00-07:00", "gfe schedule add daily 00:00-08:00"],
  },
  {
    name: "schedule clear",
    summary: "serve at any time again",
    options: [...OF_ONE],
    examples: ["gfe schedule clear"],
  },
];

const MODEL: readonly CommandSpec[] = [
  {
    name: "model",
    summary: "the model files that the built-in engine serves",
    options: [],
    group: true,
    examples: ["gfe model pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M", "gfe model list"],
  },
  {
    name: "model list",
    summary: "the models that are here, with their sizes and where they came from",
    options: [JSON_OBJECT],
    isDefault: true,
    examples: ["gfe model", "gfe model list --json"],
  },
  {
    name: "model pull",
    summary: "bring a model: from Hugging Face, or from the address of a .gguf file",
    arguments: [
      {
        name: "source",
        meaning: "OWNER/REPOSITORY, OWNER/REPOSITORY:QUANTISATION, or an address",
        required: true,
      },
    ],
    options: [
      { name: "name", value: "name", meaning: "what to call it here, instead of its file's name" },
      {
        name: "sha256",
        value: "digits",
        meaning: "what the file must be; known by itself for models of Hugging Face",
      },
      { name: "json", meaning: "one JSON object a line for each event" },
    ],
    notes: `A download that broke off goes on where it stopped when the same command is given again.
HF_ENDPOINT names another model host, such as a mirror or a registry in the house; HF_TOKEN is an access token for models that
want one; GFE_MODELS_DIR is the folder of models.`,
    examples: [
      "gfe model pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M",
      "gfe model pull https://models.example.org/story.gguf --sha256 5a9d168b…",
    ],
  },
  {
    name: "model rm",
    summary: "remove a model and free its room",
    arguments: [{ name: "model", meaning: "its name, as `gfe model list` tells it", required: true }],
    options: [JSON_OBJECT],
    examples: ["gfe model rm qwen2.5-0.5b-instruct-q4_k_m"],
  },
];

const WHY: CommandSpec = {
  name: "why",
  summary: "why this node gets requests, or does not, and what would change it",
  options: [
    { name: "test", value: "model", meaning: "send this node a test request for a model, unpaid" },
    KNOWN_HUB,
    TOKEN,
    ...OF_ONE,
  ],
  notes: "The hub counts it by model: docs/earning.md. Exit status 1 where a test request failed.",
  examples: ["gfe why", "gfe why --test llama3.2:1b"],
};

const DOCTOR: CommandSpec = {
  name: "doctor",
  summary: "check all that earning needs, and name the cure of what is missing",
  options: [KNOWN_HUB, TOKEN, ...OF_ONE],
  notes:
    "It works without a running agent and knows more with one. Exit status 1 where a check failed; a warning is none.",
  examples: ["gfe doctor", "gfe doctor --json", "gfe doctor --hub https://hub.example.org"],
};

const UNINSTALL: CommandSpec = {
  name: "uninstall",
  summary: "list and remove all that the agent made, and revoke this node at its hubs; your credits stay",
  options: [
    { name: "yes", meaning: "do not ask" },
    { name: "models", meaning: "remove downloaded models, too" },
    ...OF_ONE,
  ],
  notes: "Without --yes it lists first and asks; where nobody can be asked it only lists.",
  examples: ["gfe uninstall", "gfe uninstall --yes --models"],
};

/** In the order in which --help lists them; a group goes before what is in it. */
export const agentCommands: readonly CommandSpec[] = [
  UP,
  STATUS,
  LOGS,
  PAUSE,
  RESUME,
  DRAIN,
  LIMITS,
  ...SCHEDULE,
  WHY,
  ...MODEL,
  DOCTOR,
  UNINSTALL,
];
