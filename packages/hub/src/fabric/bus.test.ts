/** What every bus does, told of both: the one in a process and the one over a real Redis. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Network, networks } from "../testing/networks.ts";
import { withoutRedis } from "../testing/redis.ts";
import { BUS_MESSAGE_BYTES_MAX, type Bus } from "./bus.ts";
import { connectRedisBus } from "./redis-bus.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** All that comes, and a promise of the n-th. */
function listen(bus: Bus) {
  const heard: { from: string; text: string }[] = [];
  const waiting = new Set<() => void>();
  bus.onMessage((from, message) => {
    heard.push({ from, text: new TextDecoder().decode(message) });
    for (const look of waiting) look();
  });
  const until = (count: number) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (heard.length < count) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  return { heard, until };
}

const connectedIs = (bus: Bus, wanted: boolean) =>
  new Promise<void>((resolve) => {
    if (bus.connected === wanted) return resolve();
    bus.onConnected((connected) => connected === wanted && resolve());
  });

describe.each(networks)("a bus %s", (_where, make, skipped) => {
  describe.skipIf(skipped)("", () => {
    let half: Network;
    let names = 0;
    const open: Bus[] = [];
    const join = async (name = `hub-${names++}`) => {
      const bus = await half.join(name);
      open.push(bus);
      return bus;
    };
    beforeAll(async () => {
      half = await make();
    });
    afterAll(async () => {
      for (const bus of open) await bus.close();
      await half?.end();
    });

    it("brings what is sent to one hub to it alone, in order and byte for byte", async () => {
      const [a, b, c] = [await join(), await join(), await join()];
      const [toB, toC] = [listen(b), listen(c)];
      const odd = Uint8Array.from({ length: 256 }, (_, at) => at);
      const taken: Uint8Array[] = [];
      b.onMessage((_from, message) => taken.push(message));
      a.send(b.self, odd);
      for (let n = 0; n < 1_000; n++) a.send(b.self, bytes(`${n}`));
      a.send(c.self, bytes("for c"));
      await Promise.all([toB.until(1_001), toC.until(1)]);
      expect([...taken[0]!]).toEqual([...odd]);
      expect(toB.heard.slice(1).map(({ text }) => Number(text))).toEqual([...Array(1_000).keys()]);
      expect(toC.heard).toEqual([{ from: a.self, text: "for c" }]);
    });

    it("keeps what it was given apart from what the sender does with it later", async () => {
      const [a, b] = [await join(), await join()];
      const to = listen(b);
      const message = bytes("before");
      a.send(b.self, message);
      message.set(bytes("after!"));
      await to.until(1);
      expect(to.heard[0]!.text).toBe("before");
    });

    it("tells all others, and not the one that speaks", async () => {
      const [a, b, c] = [await join(), await join(), await join()];
      const [toA, toB, toC] = [a, b, c].map(listen);
      a.broadcast(bytes("hello"));
      await Promise.all([toB!.until(1), toC!.until(1)]);
      b.send(a.self, bytes("end"));
      await toA!.until(1);
      expect([toA!.heard, toB!.heard, toC!.heard].map((heard) => heard.map(({ text }) => text))).toEqual([
        ["end"],
        ["hello"],
        ["hello"],
      ]);
    });

    it("keeps the order of what is sent to one and what is told to all", async () => {
      const [a, b] = [await join(), await join()];
      const to = listen(b);
      const said = Array.from({ length: 60 }, (_, n) => `${n}`);
      for (const [n, text] of said.entries()) {
        if (n % 3 === 0 || n % 7 === 0) a.broadcast(bytes(text));
        else a.send(b.self, bytes(text));
        if (n % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await to.until(said.length);
      expect(to.heard.map(({ text }) => text)).toEqual(said);
    });

    it("loses what is sent to nobody, and says no word of it", async () => {
      const [a, b] = [await join(), await join()];
      const to = listen(b);
      a.send("nobody", bytes("lost"));
      a.send(b.self, bytes("found"));
      await to.until(1);
      expect(to.heard.map(({ text }) => text)).toEqual(["found"]);
    });

    it("says nothing after its end", async () => {
      const [a, b, c] = [await join(), await join(), await join()];
      const [toB, toC] = [listen(b), listen(c)];
      await b.close();
      expect(b.connected).toBe(false);
      b.broadcast(bytes("from the grave"));
      a.broadcast(bytes("hello"));
      await toC.until(1);
      expect([toB.heard, toC.heard.map(({ text }) => text)]).toEqual([[], ["hello"]]);
    });

    it("tells when it breaks and when it is whole again, and brings nothing of the time between", async () => {
      const [a, b] = [await join(), await join()];
      const to = listen(b);
      await half.cut();
      await Promise.all([connectedIs(a, false), connectedIs(b, false)]);
      a.send(b.self, bytes("lost"));
      await half.mend();
      await Promise.all([connectedIs(a, true), connectedIs(b, true)]);
      a.send(b.self, bytes("found"));
      await to.until(1);
      expect(to.heard.map(({ text }) => text)).toEqual(["found"]);
    });

    it("can be left while it is broken", async () => {
      const bus = await join();
      await half.cut();
      await connectedIs(bus, false);
      await bus.close();
      await half.mend();
    });
  });
});

it.skipIf(withoutRedis)("a message over the limit is refused where it is sent", async () => {
  const half = await networks[1]![1]();
  const bus = await half.join("hub");
  expect(() => bus.send("other", new Uint8Array(BUS_MESSAGE_BYTES_MAX + 1))).toThrow("too large");
  await bus.close();
  await half.end();
});

it("a Redis that is not there is an error that names it, without its password", async () => {
  const log = { warn() {}, info() {} };
  await expect(connectRedisBus({ url: "redis://:hush@127.0.0.1:1", self: "hub", log })).rejects.toThrow(
    /^REDIS_URL: no answer from redis:\/\/127\.0\.0\.1:1$/,
  );
});
