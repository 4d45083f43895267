/**
 * Stop sequences in a stream of text. What may be the beginning of one is kept back until it is known; the sequence
 * itself and all after it is never said.
 */
export class TextStops {
  readonly #stops: readonly string[];
  readonly #say: (text: string) => void;
  #held = "";
  #over = false;

  constructor(stops: readonly string[], say: (text: string) => void) {
    this.#stops = stops.filter((stop) => stop !== "");
    this.#say = say;
  }

  /** Takes more text; true once a stop sequence has come. */
  push(text: string): boolean {
    if (this.#over) return true;
    if (this.#stops.length === 0) {
      if (text !== "") this.#say(text);
      return false;
    }
    const all = this.#held + text;
    const found = this.#stops.map((stop) => all.indexOf(stop)).filter((at) => at !== -1);
    if (found.length > 0) {
      this.#over = true;
      this.#held = "";
      const before = all.slice(0, Math.min(...found));
      if (before !== "") this.#say(before);
      return true;
    }
    const keep = Math.max(...this.#stops.map((stop) => overlap(all, stop)));
    this.#held = all.slice(all.length - keep);
    if (keep < all.length) this.#say(all.slice(0, all.length - keep));
    return false;
  }

  /** No more will come: what was kept back was no stop sequence. */
  end(): void {
    if (this.#held !== "") this.#say(this.#held);
    this.#held = "";
  }
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
