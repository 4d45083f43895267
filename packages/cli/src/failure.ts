/** A fault that its user can mend: told in one line, without a stack. */
export class Failure extends Error {}

/** Runs a command and turns what it throws into a line on standard error and exit status 1. */
export function reporting<Args extends unknown[]>(
  command: (...args: Args) => Promise<void>,
): (...args: Args) => Promise<void> {
  return async (...args) => {
    try {
      await command(...args);
    } catch (error) {
      const { message, cause } = error as Error;
      console.error(`gfe: ${message}`);
      if (!(error instanceof Failure) && cause instanceof Error)
        console.error(`     because: ${cause.message}`);
      process.exit(1);
    }
  };
}
