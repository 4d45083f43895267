/** Other gateways, each as its makers say to run it, without accounting. Null, and a word, where one cannot be had. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { answers, type Child, freePort, startChild } from "./child.ts";
import type { Target } from "./load.ts";

export interface Peer {
  target: Target;
  child: Child;
  version: string;
}

const PEERS = fileURLToPath(new URL("../peers/", import.meta.url));
const PORTKEY = `${PEERS}node_modules/@portkey-ai/gateway`;
/** A Python of its own, outside what git keeps. */
const LITELLM = fileURLToPath(new URL("../../.gfe/bench/litellm/", import.meta.url));

/** It starts with no less. */
const LITELLM_KEY = "sk-bench-0123456789abcdef0123456789abcdef";

/** All that can be had, in front of the engine at this port. */
export async function startPeers(enginePort: number): Promise<Peer[]> {
  const peers: Peer[] = [];
  for (const start of [startNginx, startPortkey, startLiteLlm]) {
    const peer = await start(enginePort).catch((error: unknown) => {
      console.log(`${start.name.slice(5)} does not start: ${error}`);
      return null;
    });
    if (peer) peers.push(peer);
  }
  return peers;
}

/** A plain reverse proxy without buffers, which keeps its connections; one worker, as the others have one process. */
async function startNginx(enginePort: number): Promise<Peer | null> {
  let version: string;
  try {
    version = execFileSync("sh", ["-c", "nginx -v 2>&1"])
      .toString()
      .trim()
      .replace(/^.*nginx\//, "");
  } catch {
    console.log("nginx is not installed (Debian: apt-get install nginx-light): no comparison with it.");
    return null;
  }
  const directory = mkdtempSync(join(tmpdir(), "gfe-bench-nginx-"));
  const port = await freePort();
  writeFileSync(
    join(directory, "nginx.conf"),
    `daemon off; worker_processes 1; pid ${directory}/pid; error_log ${directory}/error.log;
${process.getuid?.() === 0 ? "user root;" : ""}
events { worker_connections 8192; }
http {
  access_log off; tcp_nodelay on; keepalive_timeout 600s; keepalive_requests 1000000;
  client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy; fastcgi_temp_path ${directory}/f;
  uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
  upstream engine { server 127.0.0.1:${enginePort}; keepalive 1024; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass http://engine; proxy_buffering off; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`,
  );
  const child = await startChild(["-p", directory, "-c", join(directory, "nginx.conf")], {
    program: "nginx",
    port,
    ready: answers("/v1/models"),
    quiet: true,
  });
  const stop = async () => {
    await child.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  return { target: { name: "nginx", port, headers: {} }, child: { ...child, stop }, version };
}

async function startPortkey(enginePort: number): Promise<Peer | null> {
  if (!existsSync(PORTKEY)) {
    console.log("installing @portkey-ai/gateway (once) …");
    try {
      execFileSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: PEERS });
    } catch {
      console.log("@portkey-ai/gateway cannot be installed here: no comparison with it.");
      return null;
    }
  }
  const child = await startChild([`${PORTKEY}/build/start-server.js`, "--port={port}", "--headless"], {
    ready: answers("/"),
    quiet: true,
  });
  const headers = {
    authorization: "Bearer x",
    "x-portkey-provider": "openai",
    "x-portkey-custom-host": `http://127.0.0.1:${enginePort}/v1`,
  };
  const { version } = (await import(`${PORTKEY}/package.json`, { with: { type: "json" } })).default as {
    version: string;
  };
  return { target: { name: "portkey", port: child.port, headers }, child, version };
}

async function startLiteLlm(enginePort: number): Promise<Peer | null> {
  const program = `${LITELLM}bin/litellm`;
  if (!existsSync(program)) {
    console.log("installing LiteLLM's proxy (once, minutes) …");
    try {
      mkdirSync(LITELLM, { recursive: true });
      execFileSync("python3", ["-m", "venv", LITELLM], { stdio: "pipe" });
      execFileSync(`${LITELLM}bin/pip`, ["install", "--quiet", "litellm[proxy]"], { stdio: "pipe" });
    } catch {
      console.log("LiteLLM cannot be installed here (python3 with venv, and PyPI): no comparison with it.");
      rmSync(LITELLM, { recursive: true, force: true });
      return null;
    }
  }
  const config = join(LITELLM, "config.yaml");
  writeFileSync(
    config,
    `model_list:
  - model_name: "*"
    litellm_params: { model: "openai/*", api_base: "http://127.0.0.1:${enginePort}/v1", api_key: x }
litellm_settings: { telemetry: false }
`,
  );
  const child = await startChild(["--config", config, "--port", "{port}", "--host", "127.0.0.1"], {
    program,
    env: { LITELLM_MASTER_KEY: LITELLM_KEY, LITELLM_LOG: "ERROR", LITELLM_LOCAL_MODEL_COST_MAP: "True" },
    ready: answers("/health/liveliness"),
    quiet: true,
  });
  const version = execFileSync(`${LITELLM}bin/pip`, ["show", "litellm"]).toString();
  return {
    target: { name: "litellm", port: child.port, headers: { authorization: `Bearer ${LITELLM_KEY}` } },
    child,
    version: /^Version: (.*)$/m.exec(version)?.[1] ?? "",
  };
}
