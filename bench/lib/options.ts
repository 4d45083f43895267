/** The number behind an option of the command line, or what it is without. Throws where it is none. */
export function numberOption(args: readonly string[], name: string, otherwise: number): number {
  const at = args.indexOf(name);
  if (at === -1) return otherwise;
  const value = Number((args[at + 1] ?? "").replaceAll(/[_,]/g, ""));
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} needs a whole number above zero`);
  return value;
}
