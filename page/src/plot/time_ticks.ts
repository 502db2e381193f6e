/** Round times of the zone in use, as the ticks of time axes, and their labels. */
import { timeOfWall, wallClock } from "../time/zone";

const DAY = 86_400;
const MONTH = 28 * DAY;
const YEAR = 365 * DAY;
const STEPS = [
  0.001, 0.01, 0.1, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, DAY, 2 * DAY, 7 * DAY,
];
const MONTH_STEPS = [1, 3, 6, 12, 24, 60, 120];
/** A Monday, from which weeks are counted. */
const ANCHOR = 4 * DAY;
/** Pixels from tick to tick, at least. */
export const SPACE = 70;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

export interface TimeTicks {
  /** Unix seconds. */
  times: number[];
  /** The distance of the times in seconds, about. */
  step: number;
}

/** Round times of a range (Unix seconds) that is drawn `width` pixels wide. */
export function timeTicks({ start, end }: { start: number; end: number }, width: number): TimeTicks {
  const wanted = (end - start) / Math.max(Math.floor(width / SPACE), 1);
  const step = STEPS.find((seconds) => seconds >= wanted);
  return step === undefined ? monthTicks(start, end, wanted) : { times: steppedTimes(start, end, step), step };
}

/** The clock of the zone may be changed between two times: the next one is the nearest that is round again. */
function steppedTimes(start: number, end: number, step: number): number[] {
  const beyond = (time: number) => {
    const rest = (wallClock(time * 1000).getTime() / 1000 - ANCHOR) % step;
    return rest < 0 ? rest + step : rest;
  };
  const rest = beyond(start);
  const times: number[] = [];
  let time = rest ? start + step - rest : start;
  while (time <= end) {
    times.push(time);
    const over = beyond(time + step);
    time += over < step / 2 ? step - over : 2 * step - over;
  }
  return times;
}

function monthTicks(start: number, end: number, wanted: number): TimeTicks {
  const months = MONTH_STEPS.find((count) => count * 30 * DAY >= wanted) ?? 1200;
  const from = wallClock(start * 1000);
  const times: number[] = [];
  for (let month = Math.ceil((from.getUTCFullYear() * 12 + from.getUTCMonth()) / months) * months; ; month += months) {
    const time = timeOfWall(new Date(Date.UTC(Math.floor(month / 12), month % 12))) / 1000;
    if (time > end) return { times, step: months * MONTH };
    if (time >= start) times.push(time);
  }
}

/** The lines of the label of each time: no more of its date than differs from the one before. */
export function timeLabels({ times, step }: TimeTicks): string[][] {
  let [year, day] = ["", ""];
  return times.map((time) => {
    const wall = wallClock(time * 1000);
    const [date = "", clock = ""] = wall.toISOString().split(/[TZ]/);
    const [ownYear, ownDay] = [date.slice(0, 4), `${MONTHS[wall.getUTCMonth()]} ${wall.getUTCDate()}`];
    const [isNewYear, isNewDay] = [ownYear !== year, ownDay !== day];
    [year, day] = [ownYear, ownDay];
    if (step >= YEAR) return [ownYear];
    if (step >= DAY) return [step >= MONTH ? ownDay.slice(0, 3) : ownDay, ...(isNewYear ? [ownYear] : [])];
    const shown = clock.slice(0, step >= 60 ? 5 : step >= 1 ? 8 : 12);
    return isNewYear ? [shown, date] : isNewDay ? [shown, ownDay] : [shown];
  });
}
