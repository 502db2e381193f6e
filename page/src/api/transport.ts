/** One request to the service: who asks, what an error says, and how a request is superseded. */
import { hasTenants, logInReason, nativeRoot, session, sessionHeaders, usesTokens } from "../session";

/** What the service answered instead of data; the message is its own text. */
export class ApiError extends Error {
  constructor(
    message: string,
    /** The HTTP status; 0 if the service could not be reached. */
    readonly status: number,
    /** Prometheus' `errorType`, or the title of a problem of the native API. */
    readonly kind: string = "",
    /** The places of a problem of the native API. */
    readonly places: readonly ProblemPlace[] = [],
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export interface ProblemPlace {
  in: string;
  field?: string;
  reason: string;
  expected?: string;
}

export type Parameters = Record<string, string | number | boolean | readonly string[] | undefined>;

export interface Request {
  method?: string;
  parameters?: Parameters;
  /** Sent as JSON. */
  body?: unknown;
  /** Of a form; for queries, whose text may be longer than a URL may be. */
  form?: Parameters;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** Whether an error only says that nobody waits for the answer any more. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

function encode(parameters: Parameters): URLSearchParams {
  const encoded = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined) continue;
    for (const item of Array.isArray(value) ? value : [value]) encoded.append(name, String(item));
  }
  return encoded;
}

/**
 * Send a request to a path relative to the page, and return the answer with its text.
 *
 * Throws ApiError for an answer that is no success and where the service cannot be reached, and
 * the browser's AbortError after `signal`.
 */
export async function send(path: string, request: Request = {}): Promise<Response> {
  const query = encode(request.parameters ?? {}).toString();
  const isNative = /^api\/v1\/(metrics|usage)\b/.test(path);
  const url = `${isNative ? nativeRoot : "."}/${path}${query ? `?${query}` : ""}`;
  const hasForm = request.form !== undefined;
  const asker = session.peek();
  const init: RequestInit = {
    method: request.method ?? (hasForm ? "POST" : "GET"),
    headers: {
      ...sessionHeaders(),
      ...(request.body !== undefined && { "Content-Type": "application/json" }),
      ...request.headers,
    },
    // The service itself reads none but the token; a gateway before it may know people by a cookie.
    credentials: "same-origin",
    // Answers are not for the browser's cache.
    cache: "no-store",
  };
  if (request.signal) init.signal = request.signal;
  if (hasForm) init.body = encode(request.form ?? {});
  else if (request.body !== undefined) init.body = JSON.stringify(request.body);
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("The service cannot be reached.", 0, "network");
  }
  if (!response.ok) {
    const error = await errorOf(response);
    // A late answer to who has logged in anew since says nothing about them.
    if (error.status === 401 && (usesTokens || hasTenants) && asker === session.peek()) logInReason.value = error.message;
    throw error;
  }
  if (isHtml(response)) throw new ApiError("The answer is a page, not of this service: a proxy before it may want a log-in; reload.", response.status);
  return response;
}

/** The answer as JSON; undefined for one without a body. */
export async function sendForJson<T>(path: string, request: Request = {}): Promise<T> {
  const response = await send(path, request);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

function isHtml(response: Response): boolean {
  return /^text\/html\b/.test(response.headers.get("Content-Type") ?? "");
}

async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text();
  // That of a proxy: its page is no message.
  return parseError(isHtml(response) ? "" : text, response.status);
}

interface ErrorBody {
  error?: string;
  errorType?: string;
  title?: string;
  detail?: string;
  errors?: ProblemPlace[];
}

function parseError(text: string, status: number): ApiError {
  try {
    const body = JSON.parse(text) as ErrorBody;
    if (body.error) return new ApiError(body.error, status, body.errorType);
    if (body.title) {
      const places = body.errors ?? [];
      return new ApiError(body.detail ?? body.title, status, body.title, places);
    }
  } catch {
    // Plain text, as the service answers outside its JSON APIs.
  }
  return new ApiError(text.trim() || `The service, or a proxy before it, answered ${status}.`, status);
}

let [awaited, awaitedSince] = [0, 0];
/** As long as a query of Prometheus takes at most; whoever waits longer has lost the connection. */
const PATIENCE_MS = 120_000;

/** Whether there are requests of `Latest` without an answer. */
export function isAwaiting(): boolean {
  return awaited > 0 && Date.now() - awaitedSince < PATIENCE_MS;
}

/** Of the requests that are started through it, only the newest one goes on. */
export class Latest {
  private controller: AbortController | null = null;

  /** Start what takes a signal; what was started before is aborted. */
  async run<T>(start: (signal: AbortSignal) => Promise<T>): Promise<T> {
    this.abort();
    const { signal } = (this.controller = new AbortController());
    if (!awaited) awaitedSince = Date.now();
    awaited += 1;
    try {
      return await start(signal);
    } finally {
      awaited -= 1;
    }
  }

  abort(): void {
    this.controller?.abort();
    this.controller = null;
  }
}
