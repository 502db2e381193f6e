/** The body of an answer of `query_range` as columns. */
import type { Answer, MatrixSeries, Range } from "../api/prometheus";
import { type PackedData, packData } from "./data";

interface Body {
  data: { result: MatrixSeries[] };
  warnings?: string[];
  infos?: string[];
}

export function readAnswer(bytes: ArrayBuffer, range: Range): Answer<PackedData> {
  const { data, warnings = [], infos = [] } = JSON.parse(new TextDecoder().decode(bytes)) as Body;
  return { data: packData(data.result, range), warnings, infos };
}
