/** What hubs do for each other, on both kinds of bus, with nodes that a test speaks for. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { AttemptHandle, AttemptSink } from "../jobs/dispatcher.ts";
import { createFabricHubs, type FabricHubs, nodeOf, receipt, until } from "../testing/fabric-hubs.ts";
import { type Network, networks } from "../testing/networks.ts";
import type { Bus } from "./bus.ts";

const attempt = { attempt: "att_1", kind: "chat" as const, model: "m", body: {}, deadline_ms: 1_000 };
function listen() {
  const heard: string[] = [];
  const sink: AttemptSink = {
    delta: (kind, payload) => void heard.push(`${kind}:${Buffer.from(payload).toString()}`),
    done: (finish) => void heard.push(`done ${finish}`),
    failed: (code) => void heard.push(`failed ${code}`),
  };
  return { heard, sink };
}
const bytes = (text: string) => new TextEncoder().encode(text);

describe.each(networks)("hubs %s", (_name, start, skipped) => {
  describe.skipIf(skipped)("", () => {
    let network: Network;
    let hub: FabricHubs["hub"];
    let close: FabricHubs["close"];
    beforeAll(async () => {
      network = await start();
    });
    afterAll(() => network?.end());
    beforeEach(() => {
      ({ hub, close } = createFabricHubs(network));
    });
    afterEach(() => close());

    describe("presence", () => {
      it("nodes of one are seen at the other, whoever came first, and go when they go", async () => {
        const a = await hub("a");
        a.registry.add({ ...nodeOf("early"), addressBlock: "8.8.8.0/24" });
        const b = await hub("b");
        a.registry.add(nodeOf("late"));
        await until(() => b.registry.get("early") !== undefined && b.registry.get("late") !== undefined);
        expect(b.registry.get("early")).toMatchObject({
          hub: "a",
          ownerId: "usr_1",
          addressBlock: "8.8.8.0/24",
        });
        expect(b.fabric.dispatcher.nodeKey("early")).toBe("key of early");
        a.registry.remove(a.registry.get("early")!);
        a.registry.setDraining("late", true);
        await until(() => b.registry.get("early") === undefined && b.registry.get("late")!.draining);
      });

      it("slots that are taken at one are taken at the other", async () => {
        const [a, b] = [await hub("a"), await hub("b")];
        a.registry.add(nodeOf("n"));
        await until(() => b.registry.get("n") !== undefined);
        const release = a.registry.takeSlot(a.registry.offers("m")[0]!)!;
        await until(() => b.registry.get("n")!.running === 1);
        expect(b.registry.get("n")!.runningByModel.get("m")).toBe(1);
        release();
        await until(() => b.registry.get("n")!.running === 0);
      });

      it("a node that moved is with the hub that it reached last", async () => {
        const [a, b, c] = [await hub("a"), await hub("b"), await hub("c")];
        a.registry.add(nodeOf("n", 1_000));
        await until(() => c.registry.get("n")?.hub === "a");
        b.registry.add(nodeOf("n", 2_000));
        await until(() => c.registry.get("n")?.hub === "b" && a.registry.get("n")?.hub === "b");
        a.registry.add(nodeOf("other"));
        a.registry.remove(a.registry.get("other")!);
        await until(() => c.registry.get("other") === undefined);
        expect(c.registry.get("n")?.hub).toBe("b");
      });

      it("a hub that says nothing is gone with its nodes, and back when it is heard again", async () => {
        const silent = { now: false };
        const a = await hub("a", {
          wrap: (bus) => ({
            ...bus,
            get connected() {
              return bus.connected;
            },
            broadcast: (message) => silent.now || bus.broadcast(message),
            send: (peer, message) => silent.now || bus.send(peer, message),
          }),
        });
        const b = await hub("b", { goneMs: 100 });
        a.registry.add(nodeOf("n"));
        await until(() => b.registry.get("n") !== undefined);
        silent.now = true;
        await until(() => b.registry.get("n") === undefined);
        silent.now = false;
        await until(() => b.registry.get("n") !== undefined);
      });
    });

    describe("an attempt on another hub's node", () => {
      async function two(wrap?: (bus: Bus) => Bus) {
        const [a, b] = [await hub("a"), await hub("b", wrap && { wrap })];
        b.registry.add(nodeOf("n"));
        await until(() => a.registry.get("n") !== undefined);
        const { heard, sink } = listen();
        const handle: AttemptHandle = a.fabric.dispatcher.start("n", attempt, sink)!;
        await until(() => b.asked.length === 1);
        return { a, b, heard, handle, node: b.asked[0]! };
      }

      it("brings what the node says in order, and its one end", async () => {
        const { b, heard, node } = await two();
        expect(b.registry.get("n")!.running).toBe(1);
        for (const word of ["a", "b", "c"]) node.sink.delta(1, bytes(word));
        node.sink.done(["stop"], receipt);
        await until(() => heard.length === 4);
        expect(heard).toEqual(["1:a", "1:b", "1:c", "done stop"]);
        expect(b.registry.get("n")!.running).toBe(0);
      });

      it("is held back, goes on and is cancelled at its node", async () => {
        const { heard, handle, node } = await two();
        handle.pause();
        handle.resume();
        handle.cancel("enough");
        await until(() => node.told.length === 3);
        expect(node.told).toEqual(["pause", "resume", "cancel"]);
        node.sink.failed("cancelled", "as told", receipt);
        await until(() => heard.length === 1);
        expect(heard).toEqual(["failed cancelled"]);
      });

      it("ends well at a hub that stops, which is asked for no other", async () => {
        const { a, b, heard, node } = await two();
        const drained = b.fabric.drain(60_000);
        await until(() => a.registry.get("n")!.draining);
        node.sink.delta(1, bytes("a"));
        node.sink.done(["stop"], receipt);
        await drained;
        await until(() => heard.length === 2);
        expect(heard).toEqual(["1:a", "done stop"]);
        await b.fabric.drain(60_000); // nothing runs: at once
      });

      it("is waited for no longer than its hub may take to stop", async () => {
        const { b } = await two();
        await b.fabric.drain(1);
        expect(b.asked).toHaveLength(1);
      });

      it("that nobody waits for any longer gives its slot back", async () => {
        const { b, handle, node } = await two();
        handle.forget();
        await until(() => b.registry.get("n")!.running === 0);
        expect(node.told).toEqual(["cancel", "forget"]);
      });

      it("ends as lost where a piece was lost between the hubs, and brings nothing after the gap", async () => {
        let dropNext = false;
        const { heard, node } = await two((bus) => ({
          ...bus,
          get connected() {
            return bus.connected;
          },
          send(peer, message) {
            if (dropNext && message[0] === 1) dropNext = false;
            else bus.send(peer, message);
          },
        }));
        node.sink.delta(1, bytes("a"));
        dropNext = true;
        node.sink.delta(1, bytes("lost"));
        node.sink.delta(1, bytes("c"));
        await until(() => node.told.includes("forget"));
        node.sink.done(["stop"], receipt);
        await new Promise((resolve) => setImmediate(resolve));
        expect(heard).toEqual(["1:a", "failed node_lost"]);
      });

      it("ends at both hubs when the bus breaks", async () => {
        const { a, b, heard, node } = await two();
        await network.cut();
        await until(() => heard.length > 0 && node.told.length > 1);
        expect(heard).toEqual(["failed node_lost"]);
        expect(a.registry.get("n")).toBeUndefined();
        expect(node.told).toEqual(["cancel", "forget"]);
        expect(b.registry.get("n")!.running).toBe(0);
        await network.mend();
        await until(() => a.registry.get("n") !== undefined);
      });

      it("is refused as busy where the last slot was taken meanwhile, and as lost where the node has left", async () => {
        const [a, b] = [await hub("a"), await hub("b")];
        b.registry.add(nodeOf("n", 1_000, 1));
        await until(() => a.registry.get("n") !== undefined);
        b.registry.takeSlot(b.registry.offers("m")[0]!);
        const busy = listen();
        a.fabric.dispatcher.start("n", attempt, busy.sink);
        await until(() => busy.heard.length === 1);
        expect(busy.heard).toEqual(["failed busy"]);
        const lost = listen();
        const entry = b.registry.get("n")!;
        a.fabric.dispatcher.start("n", attempt, lost.sink);
        b.registry.remove(entry);
        await until(() => lost.heard.length === 1);
        expect(lost.heard).toEqual(["failed node_lost"]);
      });

      it("of a stranger is nobody's: answers from another hub than the asked one are dropped", async () => {
        const { heard, node } = await two();
        const stranger = await network.join("stranger");
        const end = { t: "end", ref: 1, n: 0, finish: ["stop"], receipt };
        stranger.send("a", bytes(JSON.stringify(end)));
        stranger.send("a", Uint8Array.from([1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 65]));
        stranger.send("a", bytes("{ not JSON"));
        stranger.send("a", new Uint8Array(0));
        await new Promise((resolve) => setImmediate(resolve));
        node.sink.delta(1, bytes("a"));
        await until(() => heard.length === 1);
        expect(heard).toEqual(["1:a"]);
      });
    });

    it("those who look on at one hub hear of the other's jobs, and how much it did", async () => {
      const [a, b] = [await hub("a"), await hub("b")];
      await until(() => a.fabric.peers() === 1 && b.fabric.peers() === 1);
      a.fabric.news.jobChanged("job_1", ["usr_1", "usr_2"]);
      a.fabric.news.jobStarted();
      a.fabric.news.jobStarted();
      a.fabric.news.jobEnded(true, 7);
      a.fabric.news.jobEnded(false, 2);
      await until(() => b.news.length === 2);
      expect(b.news).toEqual([
        { id: "job_1", owners: ["usr_1", "usr_2"] },
        { started: 2, completed: 1, tokens: 9 },
      ]);
      expect(a.news).toEqual([]);
    });

    it("what is gossip of one is told to the other, all of it and once, and what is none is not", async () => {
      const [a, b] = [await hub("a"), await hub("b")];
      await until(() => a.fabric.peers() === 1 && b.fabric.peers() === 1);
      const numbers = Array.from({ length: 2_500 }, (_, n) => n);
      (await network.join("stranger")).send("b", bytes(JSON.stringify({ t: "number", items: ["one"] })));
      a.gossip.untold = [...numbers];
      await until(() => b.gossip.learnt.length >= numbers.length);
      a.gossip.untold = [-1];
      await a.fabric.close();
      await until(() => b.gossip.learnt.at(-1) === -1);
      expect([b.gossip.learnt, a.gossip.learnt]).toEqual([[...numbers, -1], []]);
    });
  });
});
