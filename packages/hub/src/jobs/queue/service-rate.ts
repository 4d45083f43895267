/** How fast a model's slots come free, from how long they were held: an exponentially weighted mean, per model. */

/** The newest slot's part in the mean, once there are enough. */
const NEWEST = 0.1;
/** Fewer tell nothing yet. */
const SAMPLES_MIN = 3;
/** Models that are remembered while nothing of theirs runs. */
const MODELS_MAX = 1000;

interface Rate {
  running: number;
  samples: number;
  meanMs: number;
}

export class ServiceRates {
  readonly #rates = new Map<string, Rate>();

  /** A slot was taken; to be called again with what it returns when it is given back. */
  begin(model: string, nowMs: number): (endedAtMs: number) => void {
    let rate = this.#rates.get(model);
    if (!rate) {
      if (this.#rates.size >= MODELS_MAX) this.#forgetOne();
      rate = { running: 0, samples: 0, meanMs: 0 };
      this.#rates.set(model, rate);
    }
    rate.running++;
    const known = rate;
    return (endedAtMs) => {
      known.running--;
      known.samples++;
      known.meanMs += (endedAtMs - nowMs - known.meanMs) * Math.max(NEWEST, 1 / known.samples);
    };
  }

  /** How long until so many slots have come free, in milliseconds; null where that is not known yet. */
  waitMs(model: string, slots: number): number | null {
    const rate = this.#rates.get(model);
    if (!rate || rate.samples < SAMPLES_MIN || rate.running === 0) return null;
    return (slots * rate.meanMs) / rate.running;
  }

  #forgetOne(): void {
    for (const [model, { running }] of this.#rates) {
      if (running > 0) continue;
      this.#rates.delete(model);
      return;
    }
  }
}
