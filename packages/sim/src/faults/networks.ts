/** Where tests put a bad network: before a hub, a database, a Redis. */
import type { NetConnectOpts } from "node:net";
import { LINK_LIMITS } from "@gfe/protocol";
import { type CutProxy, startCutProxy } from "./cut-proxy.ts";

/** A proxy before an http address, with the address that leads through it. */
export async function before(url: string): Promise<{ proxy: CutProxy; url: string }> {
  const { hostname, port, protocol } = new URL(url);
  const proxy = await startCutProxy({ host: hostname, port: Number(port) });
  return { proxy, url: `${protocol}//127.0.0.1:${proxy.port}` };
}

/** The same before PostgreSQL, also one on a unix socket. */
export async function beforeDatabase(databaseUrl: string): Promise<{ proxy: CutProxy; url: string }> {
  const url = new URL(databaseUrl);
  const directory = url.searchParams.get("host");
  const port = url.port || "5432";
  const upstream: NetConnectOpts = directory?.startsWith("/")
    ? { path: `${directory}/.s.PGSQL.${port}` }
    : { host: url.hostname, port: Number(port) };
  const proxy = await startCutProxy(upstream);
  url.searchParams.delete("host");
  url.hostname = "127.0.0.1";
  url.port = String(proxy.port);
  return { proxy, url: url.href };
}

/** Heartbeats of agents and hubs of this process that a test can wait for; call what it returns when done. */
export function quickHeartbeats(): () => void {
  const limits = LINK_LIMITS as { heartbeatMs: number; silenceMs: number };
  const was = { heartbeatMs: limits.heartbeatMs, silenceMs: limits.silenceMs };
  Object.assign(limits, { heartbeatMs: 1_000, silenceMs: 2_500 });
  return () => Object.assign(limits, was);
}
