/** The frame of every view: navigation, time range, theme, log-in. */
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { LogIn } from "./log_in";
import { changedQuery, followLinks, hrefOf, path, place, setQuery, setViewTest } from "./router";
import { logInReason, session } from "./session";
import { choice, nextTheme } from "./theme";
import { TimePicker } from "./time/picker";
import { rangeFault } from "./time/range";
import { Boundary } from "./ui/boundary";
import { closeMenus } from "./ui/menus";
import { Empty, ErrorBox, Loading } from "./ui/states";
import { Toasts } from "./ui/toast";
import { type View, VIEWS, viewOf } from "./views";
import { Who } from "./who";

setViewTest((name) => viewOf(name) !== undefined);

const THEMES = { system: "◐ System", light: "☀ Light", dark: "☾ Dark" };

export function App() {
  const view = viewOf(path.value);
  useEffect(() => {
    document.title = view ? `${view.name} · promcompat` : "promcompat";
  }, [view]);
  useEffect(closeMenus, []);
  const isBare = place.value.query.has("kiosk");
  return (
    <div class="frame" onClick={followLinks}>
      <a class="skip" href="#main">
        Skip to content
      </a>
      {!isBare && <Header view={view} />}
      <main id="main" tabIndex={-1}>
        {view?.hasTime && <TimeFault />}
        {view ? (
          <Boundary key={view.name} retryOn={[place.value]} fallback={failed}>
            <Shown view={view} />
          </Boundary>
        ) : (
          <Unknown />
        )}
      </main>
      {logInReason.value && <LogIn reason={logInReason.value} />}
      <Toasts />
    </div>
  );
}

/** A range that cannot be shown is not taken for another one silently. */
function TimeFault() {
  if (!rangeFault.value) return null;
  return (
    <p class="time-fault" role="alert">
      This is the last hour, as the address has no time range: {rangeFault.value}.{" "}
      <button type="button" class="quiet" onClick={() => setQuery({ from: null, to: null }, { replace: true })}>Remove it from the address</button>
    </p>
  );
}

function failed(error: Error) {
  return <ErrorBox error={error} title="This part of the page has failed; another one, or a reload, may work." />;
}

function Header({ view }: { view: View | undefined }) {
  return (
    <header class="top">
      <a class="brand" href="./">
        promcompat
      </a>
      <nav aria-label="Views">
        {VIEWS.map((other) => (
          <a
            key={other.name}
            href={hrefOf(other.paths[0] ?? "", sharedQuery())}
            aria-current={other === view ? "page" : undefined}
          >
            {other.name}
          </a>
        ))}
      </nav>
      <div class="top-right">
        {view?.hasTime && <TimePicker />}
        <button type="button" class="quiet" onClick={nextTheme} aria-label={`Theme: ${choice.value}`}>
          {THEMES[choice.value]}
        </button>
        <Who />
      </div>
    </header>
  );
}

/** What goes along from view to view. */
function sharedQuery(): URLSearchParams {
  const { query } = place.value;
  return changedQuery(new URLSearchParams(), {
    from: query.get("from"),
    to: query.get("to"),
    refresh: query.get("refresh"),
  });
}

function Shown({ view }: { view: View }) {
  const [Component, setComponent] = useState<ComponentType | null>(null);
  const [error, setError] = useState<Error | null>(null);
  useEffect(() => {
    view
      .load()
      .then((loaded) => setComponent(() => loaded.default))
      .catch((problem: unknown) => setError(problem as Error));
  }, [view]);
  if (error) return <ErrorBox error={error} title="This part of the page could not be loaded; reload it." />;
  // A log-in changes what everything shows.
  return Component ? <Component key={JSON.stringify(session.value)} /> : <Loading />;
}

function Unknown() {
  return (
    <Empty title="There is nothing at this address.">
      <p>
        <a href="./">Start page</a>
      </p>
    </Empty>
  );
}
