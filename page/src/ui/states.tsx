/** What is shown instead of data, and beside it: nothing, faults, waiting, badges. */
import type { ComponentChildren } from "preact";
import { ApiError } from "../api/transport";
import type { Tone } from "./toast";

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** An error with the server's own text, and the places that a problem names. */
export function ErrorBox({ error, title }: { error: Error; title?: string }) {
  const places = error instanceof ApiError ? error.places : [];
  return (
    <div class="error-box" role="alert">
      <strong>{title ?? (error instanceof ApiError && error.kind) ?? "Error"}</strong>
      <p>{error.message}</p>
      {places.length > 0 && (
        <ul>
          {places.map((place, index) => (
            <li key={index}>
              {place.field && <code>{place.field}</code>} {place.reason}
              {place.expected && `; expected: ${place.expected}`}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** Warnings and infos of a query. */
export function Notices({ warnings, infos }: { warnings: string[]; infos: string[] }) {
  if (!warnings.length && !infos.length) return null;
  return (
    <ul class="notices">
      {warnings.map((text) => (
        <li class="is-warning" key={text}>
          {text}
        </li>
      ))}
      {infos.map((text) => (
        <li key={text}>{text}</li>
      ))}
    </ul>
  );
}

export function Loading({ what = "Loading" }: { what?: string }) {
  return (
    <p class="loading" role="status">
      {what}…
    </p>
  );
}

export function Badge({ tone = "neutral", children }: { tone?: Tone; children: ComponentChildren }) {
  return <span class={`badge is-${tone}`}>{children}</span>;
}

/** The labels of a series as small boxes. */
export function LabelList({ labels }: { labels: Record<string, string> }) {
  return (
    <span class="labels">
      {Object.entries(labels)
        .filter(([name]) => name !== "__name__")
        .map(([name, value]) => (
          <span class="label" key={name}>
            <span class="label-name">{name}</span>={value}
          </span>
        ))}
    </span>
  );
}
