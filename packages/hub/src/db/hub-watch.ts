/**
 * Which hubs use this database, and which of them died. Each counts its row up now and then. A hub whose count stood
 * still at LOOKS_MAX looks one after another is dead. Only looks that the database answered count, and no clocks are
 * compared: a database that was away for all of them makes nobody dead.
 */
import type pg from "pg";

export const LOOKS_MAX = 6;

export interface HubWatchOptions {
  pool: pg.Pool;
  hubId: string;
  /** Resolves what a dead hub left; called again after a while where it rejects, and perhaps by several hubs at once. */
  onDead(hubId: string): Promise<void>;
  log: { warn(fields: object, message: string): void };
  /** Without a sign of life a hub is found dead after this to 7/6 of it, measured by who looks. */
  lostMs: number;
}

export interface HubWatch {
  /**
   * Whether the others may have taken this hub for dead, and give back what it holds until they hear of it: it was
   * frozen, or without its database, for that long. Asking has it give a sign of life at once.
   */
  lost(): boolean;
  /** This hub is no more, once no job of it is unresolved. */
  stop(): Promise<void>;
}

/** Resolves when the others may see this hub. Throws what the database throws. */
export async function startHubWatch(options: HubWatchOptions): Promise<HubWatch> {
  const { pool, hubId, log, lostMs } = options;
  const seen = new Map<string, { beats: string; looks: number }>();
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let step: Promise<void>;

  let aliveAtMs = performance.now();
  let hastening = false;

  async function beat(): Promise<void> {
    const sentAtMs = performance.now();
    await pool.query(
      `INSERT INTO hubs (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET beats = hubs.beats + 1, beat_at = now()`,
      [hubId],
    );
    aliveAtMs = sentAtMs;
  }

  function lost(): boolean {
    if (performance.now() - aliveAtMs < lostMs) return false;
    if (!hastening) {
      hastening = true;
      void beat()
        .catch(() => {}) // another is on its way
        .finally(() => {
          hastening = false;
        });
    }
    return true;
  }

  async function look(): Promise<void> {
    const { rows } = await pool.query<{ id: string; beats: string }>(
      "SELECT id, beats::text FROM hubs WHERE id <> $1",
      [hubId],
    );
    const there = new Set(rows.map(({ id }) => id));
    for (const id of seen.keys()) if (!there.has(id)) seen.delete(id);
    for (const { id, beats } of rows) {
      const last = seen.get(id);
      const looks = last?.beats === beats ? last.looks + 1 : 0;
      seen.set(id, { beats, looks });
      if (looks >= LOOKS_MAX) await bury(id, beats);
    }
  }

  async function bury(id: string, beats: string): Promise<void> {
    log.warn({ hub: id }, "another hub died: what it left is resolved");
    await options.onDead(id);
    // Where it lives after all it is there again with its next beat.
    await pool.query("DELETE FROM hubs WHERE id = $1 AND beats = $2", [id, beats]);
  }

  function next(): void {
    timer = setTimeout(() => {
      step = beat()
        .then(look)
        .catch((error: unknown) =>
          log.warn({ error: String(error) }, "the other hubs could not be looked at"),
        )
        .finally(() => stopped || next());
    }, lostMs / LOOKS_MAX).unref();
  }

  await beat();
  step = Promise.resolve();
  next();
  return {
    lost,
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await step;
      await pool
        .query(
          "DELETE FROM hubs WHERE id = $1 AND NOT EXISTS (SELECT FROM jobs WHERE hub_id = $1 AND state = 'running')",
          [hubId],
        )
        .catch(() => {}); // it will be found dead
    },
  };
}
