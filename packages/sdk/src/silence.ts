/** Calls `onSilence` after each `ms` in which nothing was heard, until stopped. */
export function watchSilence(ms: number, onSilence: () => void): { heard(): void; stop(): void } {
  let timer: ReturnType<typeof setTimeout>;
  const arm = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      arm();
      onSilence();
    }, ms);
  };
  arm();
  return { heard: arm, stop: () => clearTimeout(timer) };
}
