// What was found in words: legends, a table, and a line for those who do not see the picture.

import { BACKGROUND, css, mapPalette, objectColour } from "./colours.js";
import { shape } from "./draw.js";

const SMALLEST_SHARE = 0.001; // of the pixels that a class needs to be named

/** Count the objects of each class, the most frequent first. */
export function countObjects(objects, names) {
  const counts = new Map();
  for (const { label } of objects) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts]
    .sort(([label, count], [other, otherCount]) => otherCount - count || label - other)
    .map(([label, count]) => ({ text: `${names[label]} ${count}`, colour: objectColour(label) }));
}

/** Name the classes of the pixels with their share of the picture, the largest first, without the background. */
export function shareClasses(counts, pixels, names) {
  const palette = mapPalette(names);
  return counts
    .map((count, label) => ({ label, share: count / pixels }))
    .filter(({ label, share }) => share > SMALLEST_SHARE && !(label === 0 && names[0] === BACKGROUND))
    .sort((one, other) => other.share - one.share)
    .map(({ label, share }) => ({ text: `${names[label]} ${Math.round(100 * share)}%`, colour: palette[label] }));
}

/** Make a legend with a heading. */
export function legend(heading, entries) {
  const section = document.createElement("section");
  const title = document.createElement("h2");
  title.textContent = heading;
  const list = document.createElement("ul");
  list.className = "legend";
  list.append(
    ...entries.map(({ text, colour }) => {
      const item = document.createElement("li");
      const swatch = shape("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" });
      swatch.append(shape("rect", { width: 1, height: 1, fill: css(colour) }));
      item.append(swatch, text);
      return item;
    }),
  );
  if (entries.length === 0) list.textContent = "none";
  section.append(title, list);
  return section;
}

/** Fill the body of the table of boxes. */
export function fillTable(body, objects, names) {
  body.replaceChildren(
    ...objects.map(({ label, score, box }) => {
      const row = document.createElement("tr");
      for (const text of [names[label], score.toFixed(2), ...box.map((side) => side.toFixed(1))]) {
        row.insertCell().textContent = text;
      }
      return row;
    }),
  );
}
