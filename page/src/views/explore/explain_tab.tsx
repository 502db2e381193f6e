/** How a query is executed: its tree, and what each selection reads from where. */
import { type ExplainLeaf, type ExplainNode, type Explanation, explain } from "../../api/prometheus";
import { formatSeconds } from "../../format/durations";
import { formatCount } from "../../format/numbers";
import { formatTime } from "../../format/times";
import { autoStep, onGrid } from "../../time/range";
import { CopyButton } from "../../ui/copy";
import { Badge, ErrorBox, Loading } from "../../ui/states";
import { Table } from "../../ui/table";
import { useRequest } from "../../use_request";
import { useEffect } from "preact/hooks";
import { findingOfError } from "../../ui/promql/findings";
import { sqlOf } from "./sql";
import { fixedStep, type TabProps } from "./state";

export function ExplainTab({ panel, range, onChange, onFindings }: TabProps) {
  const step = fixedStep(panel) ?? autoStep(range, window.innerWidth);
  const grid = onGrid(range, step);
  const { data, error, isLoading } = useRequest(
    (signal) =>
      explain({ query: panel.expression, ...grid, analyze: panel.measure, database_plan: true }, signal),
    [panel.expression, grid.start, grid.end, grid.step, panel.measure],
  );
  useEffect(() => onFindings(findingOfError(error)), [error]);
  return (
    <div aria-busy={isLoading}>
      <label class="inline">
        <input
          type="checkbox"
          checked={panel.measure}
          onChange={(event) => onChange({ measure: event.currentTarget.checked })}
        />
        run the query and measure it
      </label>
      {error && <ErrorBox error={error} />}
      {!data && isLoading && <Loading what="Explaining" />}
      {data && <Shown explanation={data} />}
    </div>
  );
}

function Shown({ explanation }: { explanation: Explanation }) {
  const { tree, leaves, stages, steps, result_type: type, formatted } = explanation;
  return (
    <div>
      <p class="hint">
        A {type} at {formatCount(steps)} steps. <CopyButton text={formatted} name="Copy the formatted query" />
      </p>
      <ul class="tree" aria-label="Tree of the query">
        <Node node={tree} leaves={leaves} />
      </ul>
      {stages && <Stages stages={stages} />}
      {leaves.map((leaf, index) => (
        <Leaf key={index} leaf={leaf} index={index} />
      ))}
    </div>
  );
}

function Node({ node, leaves }: { node: ExplainNode; leaves: readonly ExplainLeaf[] }) {
  const leaf = node.leaf === undefined ? undefined : leaves[node.leaf];
  return (
    <li>
      <Badge>{node.type}</Badge> <code>{node.text}</code>{" "}
      {node.step_invariant && <Badge tone="good">computed once</Badge>}
      {leaf && (
        <span class="hint">
          {" "}
          leaf {node.leaf}: {summary(leaf)}
        </span>
      )}
      {node.omitted !== undefined && <span class="hint">{node.omitted} more parts</span>}
      {node.children.length > 0 && (
        <ul>
          {node.children.map((child, index) => (
            <Node key={index} node={child} leaves={leaves} />
          ))}
        </ul>
      )}
    </li>
  );
}

function summary(leaf: ExplainLeaf): string {
  const rows = leaf.actual_rows ?? leaf.estimated_rows;
  return [
    `${formatCount(leaf.series)} series`,
    ...(rows === null ? [] : [`${formatCount(rows)} samples${leaf.actual_rows === null ? " estimated" : ""}`]),
    ...(leaf.seconds === null ? [] : [formatSeconds(leaf.seconds)]),
    ...leaf.rules.filter(({ applies }) => applies).map(({ rule }) => rule),
  ].join(", ");
}

function Stages({ stages }: { stages: Record<string, number> }) {
  const rows = Object.entries(stages).map(([stage, seconds]) => ({ stage, seconds }));
  const most = Math.max(...rows.map(({ seconds }) => seconds), 1e-9);
  return (
    <Table
      label="Time of each stage"
      rows={rows}
      columns={[
        { name: "Stage", value: (row) => row.stage },
        { name: "Time", isNumber: true, value: (row) => row.seconds, show: (row) => formatSeconds(row.seconds) },
        {
          name: "Share",
          value: (row) => row.seconds,
          show: (row) => <span class="bar" style={{ width: `${(row.seconds / most) * 10}rem` }} />,
        },
      ]}
    />
  );
}

function Leaf({ leaf, index }: { leaf: ExplainLeaf; index: number }) {
  const sql = sqlOf(leaf);
  return (
    <section class="leaf card" aria-label={`Leaf ${index}`}>
      <h3>
        Leaf {index}: {summary(leaf)}
      </h3>
      <p class="mono">{leaf.matchers.map(({ name, type, value }) => `${name}${type}"${value}"`).join(", ")}</p>
      <p class="hint">
        Samples after {formatTime(leaf.start)} up to {formatTime(leaf.end)}.
      </p>
      <Table
        label={`Rules of leaf ${index}`}
        rows={leaf.rules}
        columns={[
          { name: "Read from", value: (row) => row.rule },
          {
            name: "Applies",
            value: (row) => (row.applies ? "yes" : "no"),
            show: (row) => <Badge tone={row.applies ? "good" : "neutral"}>{row.applies ? "yes" : "no"}</Badge>,
          },
          { name: "Reason", value: (row) => row.reason },
        ]}
      />
      <details>
        <summary>SQL for the same samples</summary>
        <pre>{sql}</pre>
        <CopyButton text={sql} name="Copy the SQL" />
      </details>
      {leaf.sql && (
        <details>
          <summary>The statement that the service sends</summary>
          <pre>{leaf.sql}</pre>
          <ol>
            {leaf.parameters.map((parameter, place) => (
              <li key={place}>
                <code>{JSON.stringify(parameter)}</code>
              </li>
            ))}
          </ol>
          <CopyButton text={leaf.sql} name="Copy the statement" />
        </details>
      )}
      {leaf.database_plan && (
        <details>
          <summary>Plan of the database</summary>
          <pre>{leaf.database_plan}</pre>
        </details>
      )}
    </section>
  );
}
