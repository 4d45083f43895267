/** What keeps a model file from being pulled, listed or removed: told to its user in one line that names the cure. */
export class ModelProblem extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ModelProblem";
  }
}
