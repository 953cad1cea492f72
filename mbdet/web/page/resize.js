// Bilinear resizing, antialiased where it makes an image smaller, to the byte as mbdet does it with Pillow: a triangle
// filter with weights in fixed point, along the rows and then along the columns, each rounded to 8 bits.

const PRECISION = 22; // bits after the point of a weight: 32, less 8 of the pixel, less 2 to spare

/** The weights of one axis: for each new pixel the first old one, how many of them, and their weights. */
function triangleFilter(oldLength, newLength) {
  const scale = oldLength / newLength;
  const support = Math.max(scale, 1); // half the width of the triangle in old pixels
  const most = Math.ceil(support) * 2 + 1;
  const firsts = new Int32Array(newLength);
  const counts = new Int32Array(newLength);
  const weights = new Int32Array(newLength * most);
  const exact = new Float64Array(most);
  for (let place = 0; place < newLength; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(oldLength, Math.trunc(centre + support + 0.5)) - first;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      // By the inverse, as a division would round otherwise.
      exact[i] = Math.max(0, 1 - Math.abs((first + i - centre + 0.5) * (1 / support)));
      sum += exact[i];
    }
    for (let i = 0; i < count; i++) {
      weights[place * most + i] = Math.trunc(0.5 + (exact[i] / sum) * 2 ** PRECISION);
    }
    firsts[place] = first;
    counts[place] = count;
  }
  return { firsts, counts, weights, most };
}

/** Resize along one axis. `along` and `across` are the distances of neighbours along this axis and the other one. */
function pass(source, target, filter, lines, length, sourceSteps, targetSteps) {
  const { firsts, counts, weights, most } = filter;
  for (let line = 0; line < lines; line++) {
    const from = line * sourceSteps.across;
    const to = line * targetSteps.across;
    for (let place = 0; place < length; place++) {
      let sum = 1 << (PRECISION - 1);
      let index = from + firsts[place] * sourceSteps.along;
      const end = place * most + counts[place];
      for (let i = place * most; i < end; i++) {
        sum += source[index] * weights[i];
        index += sourceSteps.along;
      }
      target[to + place * targetSteps.along] = sum >> PRECISION; // clamped by the type of the array
    }
  }
}

function resizeRows(plane, { height, width }, newWidth) {
  if (newWidth === width) return plane;
  const target = new Uint8ClampedArray(height * newWidth);
  const [from, to] = [width, newWidth].map((across) => ({ along: 1, across }));
  pass(plane, target, triangleFilter(width, newWidth), height, newWidth, from, to);
  return target;
}

function resizeColumns(plane, { height, width }, newHeight) {
  if (newHeight === height) return plane;
  const target = new Uint8ClampedArray(newHeight * width);
  const steps = { along: width, across: 1 };
  pass(plane, target, triangleFilter(height, newHeight), width, newHeight, steps, steps);
  return target;
}

/**
 * Resize one plane of 8 bits.
 *
 * @param {Uint8ClampedArray} plane - Rows of pixels.
 * @param {{height: number, width: number}} size - Of the plane.
 * @param {{height: number, width: number}} newSize - What it becomes.
 * @returns {Uint8ClampedArray} The plane itself where it has that size.
 */
export function resizePlane(plane, size, newSize) {
  const narrow = resizeRows(plane, size, newSize.width);
  return resizeColumns(narrow, { ...size, width: newSize.width }, newSize.height);
}
