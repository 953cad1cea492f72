// A colour for each class, the same as in mbdet's own drawings.

import { roundHalfEven } from "./numbers.js";

export const BACKGROUND = "background"; // name of the class 0 of pixels that are of no other class

/** Colour of a class of objects: steps of the golden ratio keep any number of hues apart. */
export function objectColour(label) {
  const hue = (0.02 + label * 0.618034) % 1;
  const [saturation, value] = [[0.9, 1], [0.6, 1], [0.9, 0.75]][label % 3];
  const channel = (shift) => {
    const sextant = (shift + hue * 6) % 6;
    const share = Math.max(0, Math.min(sextant, 4 - sextant, 1));
    return roundHalfEven(255 * value * (1 - saturation * share));
  };
  return [channel(5), channel(3), channel(1)];
}

/** Colours of the classes of pixels: those of Pascal VOC's masks, the first of them black if it is the background. */
export function mapPalette(names) {
  const shift = names[0] === BACKGROUND ? 0 : 1;
  return names.map((_, label) => {
    const number = label + shift;
    const colour = [0, 0, 0];
    for (let bit = 0; bit < 9; bit++) {
      if ((number >> bit) & 1) colour[bit % 3] |= 128 >> Math.floor(bit / 3);
    }
    return colour;
  });
}

export function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/** Black or white, whichever is read better on a colour. */
export function inkOn([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 110 ? "#000" : "#fff";
}
