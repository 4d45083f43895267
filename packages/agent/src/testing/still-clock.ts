/** A host's time that stands still until it is told to go on. */
export function stillClock() {
  const timers: { atMs: number; callback: () => void }[] = [];
  const self = {
    timeMs: 0,
    nowMs: () => self.timeMs,
    after(ms: number, callback: () => void) {
      const timer = { atMs: self.timeMs + ms, callback };
      timers.push(timer);
      return () => {
        const at = timers.indexOf(timer);
        if (at >= 0) timers.splice(at, 1);
      };
    },
    /** Runs what is due, and lets what it started come to rest. */
    async go(ms: number) {
      self.timeMs += ms;
      for (;;) {
        await new Promise((resolve) => setImmediate(resolve));
        const due = timers.findIndex(({ atMs }) => atMs <= self.timeMs);
        if (due < 0) return;
        timers.splice(due, 1)[0]!.callback();
      }
    },
    timers,
  };
  return self;
}
