/** The two kinds of bus between hubs, for tests that must hold on both. */
import type { Bus } from "../fabric/bus.ts";
import { createLocalNetwork } from "../fabric/local-bus.ts";
import { connectRedisBus } from "../fabric/redis-bus.ts";
import { startRedis, withoutRedis } from "./redis.ts";

if (withoutRedis)
  console.warn("\n*** NOTHING BETWEEN HUBS IS TESTED ON REDIS: redis-server is not installed ***\n");

export interface Network {
  join(self: string): Promise<Bus>;
  /** Nothing passes any more. */
  cut(): Promise<void>;
  mend(): Promise<void>;
  end(): Promise<void>;
}

async function inProcess(): Promise<Network> {
  const network = createLocalNetwork();
  return {
    join: async (self) => network.join(self),
    cut: async () => network.cut(),
    mend: async () => network.mend(),
    end: async () => {},
  };
}

async function onRedis(): Promise<Network> {
  const redis = await startRedis();
  const log = { warn() {}, info() {} };
  return {
    join: (self) => connectRedisBus({ url: redis.url, self, log }),
    cut: redis.kill,
    mend: redis.start,
    end: redis.kill,
  };
}

/** By name, and whether it is left out here. */
export const networks: readonly (readonly [name: string, start: () => Promise<Network>, skipped: boolean])[] =
  [
    ["in one process", inProcess, false],
    ["over Redis", onRedis, withoutRedis],
  ];
