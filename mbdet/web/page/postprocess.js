// From what the network gives to boxes and classes of pixels in the picture.

import { placedSize } from "./preprocess.js";

/**
 * Name the objects that a file found, best first.
 *
 * @param {object} outputs - Data of the file's outputs by name.
 * @param {{height: number, width: number}} size - Of the picture.
 * @param {object} input - What the model's description says about its input; the picture was stretched to it.
 * @returns {{label: number, score: number, box: number[]}[]} Boxes are left, top, right, bottom in pixels of the picture.
 */
export function readObjects({ boxes, scores, labels, counts }, size, input) {
  const [height, width] = input.size;
  const scale = [size.width / width, size.height / height];
  return Array.from({ length: Number(counts[0]) }, (_, i) => ({
    label: Number(labels[i]),
    score: scores[i],
    box: [0, 1, 2, 3].map((side) => Math.fround(boxes[4 * i + side] * scale[side % 2])),
  }));
}

/**
 * Read the class of each pixel of the network input.
 *
 * @param {object} outputs - Data of the file's outputs by name.
 * @returns {{classes: Uint8Array, scores: ?Float32Array}} What the class scores, if the file gives probabilities.
 */
export function readMap({ classes, probabilities }) {
  if (!probabilities) return { classes, scores: null };
  const pixels = classes.length;
  const scores = probabilities.slice(0, pixels);
  for (let i = pixels; i < probabilities.length; i++) {
    if (probabilities[i] > scores[i % pixels]) scores[i % pixels] = probabilities[i];
  }
  return { classes, scores };
}

/** For each of `length` pixels the nearest of `oldLength`, with the sums in Pillow's order, as they decide ties. */
export function nearest(oldLength, length) {
  const step = oldLength / length;
  const places = new Int32Array(length);
  let place = step * 0.5;
  for (let i = 0; i < length; i++, place += step) places[i] = Math.trunc(place);
  return places;
}

/**
 * Find for each row and column of a picture the one of the network input that it has its class from.
 *
 * @param {{height: number, width: number}} size - Of the picture.
 * @param {object} input - What the model's description says about its input.
 */
export function mapPlaces(size, input) {
  const [height, width] = input.size;
  const placed = placedSize(size, { height, width }, input.resize);
  return { rows: nearest(placed.height, size.height), columns: nearest(placed.width, size.width) };
}
