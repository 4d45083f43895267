import type { Host } from "../host.ts";
import { MODEL_LIMITS } from "../limits.ts";

export type Connection = ReturnType<typeof createConnection>;

/** A signal that is aborted by silence, or with `parent`. */
export function createConnection(host: Pick<Host, "after">, parent?: AbortSignal) {
  const controller = new AbortController();
  const onParent = () => controller.abort(parent?.reason);
  if (parent?.aborted) onParent();
  parent?.addEventListener("abort", onParent, { once: true });
  let spoke = false;
  const look = (): (() => void) =>
    host.after(MODEL_LIMITS.silenceMs, () => {
      if (!spoke) return controller.abort(new Error("the server fell silent"));
      spoke = false;
      callOff = look();
    });
  let callOff = look();
  return {
    signal: controller.signal,
    heard() {
      spoke = true;
    },
    close() {
      callOff();
      parent?.removeEventListener("abort", onParent);
    },
  };
}
