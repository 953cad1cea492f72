// A result laid over its picture: the map of classes as pixels, the boxes as shapes, sharp at any size on the screen.

import { BACKGROUND, css, inkOn, mapPalette, objectColour } from "./colours.js";
import { mapPlaces } from "./postprocess.js";

const SVG = "http://www.w3.org/2000/svg";
const FONT_SIZE = 13; // on the screen
const PADDING = 3;
const HATCH = 8; // pixels from one line of the hatching to the next

/**
 * Paint the class of each pixel; the page lays it over the picture. Background is left out, what scores too little is
 * hatched.
 *
 * @param {HTMLCanvasElement} canvas - Gets the size of the picture.
 * @param {{classes: Uint8Array, scores: ?Float32Array}} map - Of the network input.
 * @param {{height: number, width: number}} size - Of the picture.
 * @param {object} input - What the model's description says about its input.
 * @param {string[]} names - Of the classes.
 * @param {number} threshold - Least score.
 * @returns {number[]} How many pixels of the picture each class has.
 */
export function drawMap(canvas, map, size, input, names, threshold) {
  const { rows, columns } = mapPlaces(size, input);
  // Bytes red, green, blue, alpha, which is what the lowest byte first makes of them everywhere that browsers run.
  const palette = mapPalette(names).map(([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0);
  if (names[0] === BACKGROUND) palette[0] = 0;
  const counts = names.map(() => 0);
  canvas.width = size.width;
  canvas.height = size.height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size.width, size.height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let y = 0, i = 0; y < size.height; y++) {
    const start = rows[y] * input.size[1];
    for (let x = 0; x < size.width; x++, i++) {
      const place = start + columns[x];
      if (map.scores && map.scores[place] < threshold) {
        pixels[i] = (x + y) % HATCH === 0 ? 0xffffffff : 0;
      } else {
        pixels[i] = palette[map.classes[place]];
        counts[map.classes[place]]++;
      }
    }
  }
  context.putImageData(image, 0, 0);
  return counts;
}

/**
 * Draw a box with name and score for each object, the best on top.
 *
 * @param {SVGSVGElement} svg - Lies over the picture.
 * @param {object[]} objects - As `readObjects` returns them.
 * @param {{height: number, width: number}} size - Of the picture.
 * @param {string[]} names - Of the classes.
 */
export function drawBoxes(svg, objects, size, names) {
  const unit = size.width / Math.max(svg.getBoundingClientRect().width, 1); // pixels of the picture in one on the screen
  svg.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
  const boxes = objects.map(({ box: [left, top, right, bottom], label, score }) =>
    shape("rect", {
      class: "box",
      x: left,
      y: top,
      width: right - left,
      height: bottom - top,
      stroke: css(objectColour(label)),
      "data-label": label,
      "data-score": score,
    }),
  );
  const labels = placeLabels(objects, size, names, unit).map(({ x, y, width, height, text, colour }) => {
    const group = shape("g", {});
    const words = shape("text", { x: x + PADDING * unit, y: y + FONT_SIZE * unit, fill: inkOn(colour) });
    words.setAttribute("font-size", FONT_SIZE * unit);
    words.textContent = text;
    group.append(shape("rect", { x, y, width, height, fill: css(colour) }), words);
    return group;
  });
  svg.replaceChildren(...boxes.reverse(), ...labels.reverse());
}

/** Find a place at an edge of its box for each label, inside the picture and off the better ones if it can be. */
function placeLabels(objects, size, names, unit) {
  const ruler = document.createElement("canvas").getContext("2d");
  ruler.font = `600 ${FONT_SIZE}px system-ui, sans-serif`;
  const height = (FONT_SIZE + 2 * PADDING) * unit;
  const labels = [];
  for (const { label, score, box: [left, top, , bottom] } of objects) {
    const text = `${names[label]} ${Math.round(100 * score)}%`;
    const width = (ruler.measureText(text).width + 2 * PADDING) * unit;
    if (width > size.width || height > size.height) continue;
    const x = Math.max(0, Math.min(left, size.width - width));
    const places = [top - height, top, bottom - height, bottom].map((y) => Math.max(0, Math.min(y, size.height - height)));
    const isFree = (y) =>
      labels.every((other) => x >= other.x + other.width || other.x >= x + width || y >= other.y + height || other.y >= y + height);
    labels.push({ x, y: places.find(isFree) ?? places[0], width, height, text, colour: objectColour(label) });
  }
  return labels;
}

export function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
