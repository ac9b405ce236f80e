import {
  answersOf,
  contentTypesOf,
  type DeclaredAnswer,
  type InspectReply,
  jsonShapeOf,
  type Route,
  selfContained,
} from "@rootstock/hub";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { noteAnswerHeaders, noteFault, noteSecretsIn } from "./runRecord.ts";

/**
 * Holds every answer of a declared route against what the API's document says of it. One that the document does not
 * allow is answered as a 500 that says why, and fails the run. Routes that declare no answers yet are left alone.
 */
export const checkedReplies = (checks = EVERY_HUB): InspectReply => {
  return async (route, response) => {
    await noteAnswer(route, response);
    if (!route.replies) return response;
    const problem = await checks.problemOf(route, response);
    if (problem === undefined) return response;
    const message = `${route.method} ${route.path} ${response.status}: ${problem}`;
    noteFault(message);
    return new Response(JSON.stringify({ error: { code: "internal_error", message } }), {
      status: 500,
      headers: { "content-type": "application/json" },
    });
  };
};

/** Whoever asks, and by whatever: what an answer gives is noted. Secrets are given by calls that make them. */
const noteAnswer = async (route: Route, response: Response): Promise<void> => {
  noteAnswerHeaders(response.headers);
  const isJson = response.headers.get("content-type")?.includes("json");
  if (route.method !== "GET" && response.ok && isJson) noteSecretsIn(await response.clone().text());
};

/** Compares answers with declarations. What is compiled for one is kept for the next. */
export class ReplyChecks {
  readonly #ajv = new Ajv2020({ strict: false, validateSchema: false, code: { optimize: false } });
  readonly #compiled = new Map<string, ValidateFunction>();

  constructor() {
    addFormats.default(this.#ajv);
  }

  /** What the document does not allow of this answer; undefined for one that it allows. */
  async problemOf(route: Route, response: Response): Promise<string | undefined> {
    const answer = answersOf(route).find(({ status }) => status === response.status);
    if (!answer) return `this status is not declared: ${await shown(response)}`;
    const given = response.headers.get("content-type")?.split(";", 1)[0]?.trim() || undefined;
    const allowed = contentTypesOf(answer);
    if (!allowed.includes(given)) return `content type ${given} is not declared, but ${allowed.join(", ")}`;
    if (given !== "application/json") return undefined;
    const validate = this.#validatorOf(route, answer);
    if (!validate) return undefined;
    const text = await response.clone().text();
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch {
      return `no JSON: ${text.slice(0, SHOWN)}`;
    }
    return validate(body) ? undefined : `${this.#ajv.errorsText(validate.errors)} in ${text.slice(0, SHOWN)}`;
  }

  #validatorOf(route: Route, answer: DeclaredAnswer): ValidateFunction | undefined {
    const shape = jsonShapeOf(answer);
    if (!shape) return undefined;
    const key = `${route.method} ${route.path} ${answer.status}`;
    const found = this.#compiled.get(key) ?? this.#ajv.compile(selfContained(shape));
    this.#compiled.set(key, found);
    return found;
  }
}

/** Declarations are the same in every hub: what one of them has compiled, the next need not. */
const EVERY_HUB = new ReplyChecks();

const SHOWN = 600;

const shown = async (response: Response): Promise<string> =>
  response.headers.get("content-type")?.includes("json") ? (await response.clone().text()).slice(0, SHOWN) : "";
