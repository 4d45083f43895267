/** A provider's machine with the real agent, its journal and its engines, started again whenever it ended. */
import { type Agent, type AgentEvent, createJournal, recordOf, startAgent } from "@gfe/agent";
import { createSigner, RECEIPT_PURPOSE } from "@gfe/protocol";
import type { Random } from "../random.ts";
import { Owner } from "./clock.ts";
import { DayEngine } from "./day-engine.ts";
import { Machine } from "./machine.ts";
import type { Place } from "./network.ts";
import { MODELS, type NodeSpec, type SimNode, type Stage } from "./stage.ts";

/** As a service manager waits between an end and the next start. */
const RESTART_MS = 5_000;

/** The end of an attempt that its agent signed and sent while it was joined. */
export interface Told {
  attempt: string;
  atMs: number;
  failure: string | null;
}

export class DayNode implements SimNode {
  readonly machine: Machine;
  readonly place: Place;
  readonly spec: NodeSpec;
  readonly told: Told[] = [];
  /** When what was sent may not have arrived: the connection ended. */
  readonly lostAtMs: number[] = [];
  /** Why agents ended by themselves. */
  readonly faults: string[] = [];
  engines: DayEngine[] = [];
  agent: Agent | null = null;
  isJoined = false;
  /** Receipts that were signed. */
  signed = 0;
  readonly #stage: Stage;
  #owner: Owner;
  #lives = 0;

  constructor(stage: Stage, spec: NodeSpec, random: Random) {
    this.#stage = stage;
    this.spec = spec;
    this.place = spec.place;
    this.#owner = new Owner(spec.name);
    this.machine = new Machine(stage.clock, stage.network, spec.place, random, spec.name);
    const host = this.machine.host();
    // One engine has every model, a second one the last of them, too.
    this.engines = [MODELS, MODELS.slice(-1)].map(
      (models, i) => new DayEngine(host, stage.records, spec, `engine${i}`, models),
    );
  }

  start(): void {
    if (this.#owner.alive && this.#lives > 0) return;
    const owner = new Owner(`${this.spec.name}/${++this.#lives}`);
    this.#owner = owner;
    this.machine.boot(owner);
    this.#stage.clock.after(0, () => void this.#run(owner), owner);
  }

  crash(): void {
    if (!this.#owner.alive) return;
    this.#lost();
    this.#owner.alive = false;
    this.#stage.network.died(this.#owner);
  }

  #lost(): void {
    this.agent = null;
    this.isJoined = false;
    this.lostAtMs.push(this.#stage.clock.nowMs);
  }

  async #run(owner: Owner): Promise<void> {
    const { records, clock } = this.#stage;
    const { keys, slots, token, price, name } = this.spec;
    const host = this.machine.host();
    const journal = createJournal(host);
    this.engines = this.engines.map((engine) => engine.at(host));
    const signer = await createSigner(keys);
    try {
      const agent = await startAgent({
        ...{ host, hubUrl: "http://127.0.0.1", token, gpus: [], slots, name, benchmark: true },
        engines: this.engines.map((engine) => engine.asEngine()),
        prices: { default: price },
        signer: {
          publicKey: signer.publicKey,
          sign: (value) => {
            if ((value as { purpose?: string }).purpose === RECEIPT_PURPOSE) this.signed++;
            return signer.sign(value);
          },
        },
        onEvent: (event) => {
          journal.put(recordOf(event, host.nowMs()));
          this.#onEvent(event);
        },
      });
      this.agent = agent;
      const end = await agent.done;
      if (end.type === "fault") throw end.error;
    } catch (error) {
      this.faults.push(String(error));
      records.note(`agent ended: ${String(error)}`);
    }
    this.#lost();
    await journal.close();
    await clock.sleep(RESTART_MS);
    owner.alive = false;
    this.start();
  }

  #onEvent(event: AgentEvent): void {
    const { records, clock } = this.#stage;
    if (event.type === "joined") {
      this.isJoined = true;
      records.note("joined");
    }
    if (event.type === "disconnected") {
      this.isJoined = false;
      this.lostAtMs.push(clock.nowMs);
      records.note(`disconnected: ${event.reason}`);
    }
    if (event.type === "withdrawn") records.note(`withdraws ${event.model}: ${event.code}`);
    if (event.type === "restored") records.note(`restores ${event.model}`);
    if (event.type === "attempt.ended") {
      const { attempt, failure } = event;
      records.note(`ended ${attempt} ${failure ?? "done"}`);
      if (this.isJoined) this.told.push({ attempt, failure, atMs: clock.nowMs });
    }
  }
}
