/** One range of bytes of a file (RFC 9110, 14.2): what a download that was cut off goes on with. */

export type Range =
  | { type: "whole" }
  | { type: "part"; from: number; to: number }
  | { type: "unsatisfiable" };

/** `to` is the last byte. What is no single range of bytes is the whole file, as the standard allows. */
export function parseRange(header: string | undefined, sizeBytes: number): Range {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "");
  if (!match || (match[1] === "" && match[2] === "")) return { type: "whole" };
  const last = sizeBytes - 1;
  const [from, to] =
    match[1] === ""
      ? [Math.max(0, sizeBytes - Number(match[2])), last]
      : [Number(match[1]), match[2] === "" ? last : Math.min(last, Number(match[2]))];
  if (match[1] !== "" && match[2] !== "" && Number(match[2]) < from) return { type: "whole" };
  return from > last || to < from ? { type: "unsatisfiable" } : { type: "part", from, to };
}
