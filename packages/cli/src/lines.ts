/**
 * Lines for standard output. A write to a pipe or a terminal holds the whole process up, about as long as signing a
 * receipt takes: a line that comes alone goes at once, those on its heels go together.
 */

const GATHER_MS = 50;
/** Above it they go before their time. */
const GATHERED_LENGTH_MAX = 64 * 1024;

export function createLines(write: (text: string) => void): (line: string) => void {
  let gathered = "";
  let timer: NodeJS.Timeout | null = null;
  const flush = () => {
    const text = gathered;
    gathered = "";
    if (text !== "") write(text);
    return text !== "";
  };
  const turn = () => {
    timer = flush() ? setTimeout(turn, GATHER_MS).unref() : null;
  };
  process.once("exit", flush);
  return (line) => {
    gathered += `${line}\n`;
    if (timer === null) turn();
    else if (gathered.length > GATHERED_LENGTH_MAX) flush();
  };
}
