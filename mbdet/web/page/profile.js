// Colour profiles. Python takes colours as they are stored, and WebKit converts them even where it is asked not to; so
// what says in which space they are goes before a picture is decoded.

const COLOUR_CHUNKS = ["iCCP", "cICP", "gAMA", "cHRM"]; // of PNG
const PROFILE_FLAG = 0x20; // of WebP

/** Return a JPEG, PNG or WebP without its colour profile, and any other file as it is. */
export async function withoutProfile(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const view = new DataView(bytes.buffer);
  let cuts = []; // [start, end) of what goes
  if (text(bytes, 0, 2) === "\xff\xd8") cuts = cutsOfJpeg(bytes, view);
  else if (text(bytes, 1, 3) === "PNG") cuts = cutsOfPng(bytes, view);
  else if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 4) === "WEBP") cuts = cutsOfWebp(bytes, view);
  if (!cuts.length) return file;
  const starts = [0, ...cuts.map(([, end]) => end)];
  const ends = [...cuts.map(([start]) => start), bytes.length];
  return new Blob(starts.map((start, index) => bytes.subarray(start, ends[index])), { type: file.type });
}

/** Find the segments APP2 of a profile, of which a long one has several. */
function cutsOfJpeg(bytes, view) {
  const cuts = [];
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff; ) {
    if (bytes[at + 1] === 0xff) {
      at++; // a marker may be preceded by any number of these
      continue;
    }
    if (bytes[at + 1] === 0xda) break; // the pixels begin
    const end = at + 2 + view.getUint16(at + 2);
    if (bytes[at + 1] === 0xe2 && text(bytes, at + 4, 12) === "ICC_PROFILE\0") cuts.push([at, end]);
    at = end;
  }
  return cuts;
}

function cutsOfPng(bytes, view) {
  const cuts = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const end = at + 12 + view.getUint32(at); // length, type, data, checksum
    const type = text(bytes, at + 4, 4);
    if (type === "IDAT") break;
    if (COLOUR_CHUNKS.includes(type)) cuts.push([at, end]);
    at = end;
  }
  return cuts;
}

/** Find the chunk of a profile, and take it out of the header's flags and length, in place. */
function cutsOfWebp(bytes, view) {
  if (text(bytes, 12, 4) !== "VP8X" || !(bytes[20] & PROFILE_FLAG)) return [];
  for (let at = 12; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at + 4, true);
    const end = at + 8 + length + (length % 2);
    if (text(bytes, at, 4) === "ICCP") {
      bytes[20] &= ~PROFILE_FLAG;
      view.setUint32(4, view.getUint32(4, true) - (end - at), true);
      return [[at, end]];
    }
    at = end;
  }
  return [];
}

function text(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}
