// Arithmetic as Python and NumPy have it.

/** Round to the nearest whole number, halves to the even one. */
export function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

export function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}
