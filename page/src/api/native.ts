/** The native API (docs/native-api.md): typed calls below `/api/v1/metrics`. */
import { type Parameters, sendForJson } from "./transport";

const ROOT = "api/v1/metrics";

interface Options {
  parameters?: Parameters;
  signal?: AbortSignal;
  /** Such as If-Match, which guards a change. */
  headers?: Record<string, string>;
}

/** `path` begins with `/`, as in the OpenAPI document, and its parts are encoded. */
export const native = {
  get: <T>(path: string, options: Options = {}) => sendForJson<T>(ROOT + path, options),
  post: <T>(path: string, body?: unknown, options: Options = {}) =>
    sendForJson<T>(ROOT + path, { ...options, method: "POST", body: body ?? {} }),
  put: <T>(path: string, body: unknown, options: Options = {}) =>
    sendForJson<T>(ROOT + path, { ...options, method: "PUT", body }),
  patch: <T>(path: string, body: unknown, options: Options = {}) =>
    sendForJson<T>(ROOT + path, {
      ...options,
      method: "PATCH",
      body,
      headers: { "Content-Type": "application/merge-patch+json", ...options.headers },
    }),
  delete: <T>(path: string, options: Options = {}) =>
    sendForJson<T>(ROOT + path, { ...options, method: "DELETE" }),
};
