/** The document of the API, made from the declared routes (OpenAPI 3.1). */
export { answersOf, contentTypesOf, type DeclaredAnswer, jsonShapeOf } from "./answers.ts";
export { openApiDocument } from "./document.ts";
export type { JsonSchema } from "./jsonSchema.ts";
export { selfContained } from "./operation.ts";
export { openApiRoutes } from "./route.ts";
