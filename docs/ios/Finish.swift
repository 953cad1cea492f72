// From the outputs of an exported file to results in the pixels of the picture, as mbdet computes them in Python.

/// `decoding` in the description of a file.
public struct Decoding: Decodable {
    public let scoreThreshold: Float
    public let iouThreshold: Float
    public let maxCandidates: Int
    public let maxPerClass: Int
    public let maxDetections: Int

    public init(scoreThreshold: Float, iouThreshold: Float, maxCandidates: Int, maxPerClass: Int, maxDetections: Int) {
        self.scoreThreshold = scoreThreshold
        self.iouThreshold = iouThreshold
        self.maxCandidates = maxCandidates
        self.maxPerClass = maxPerClass
        self.maxDetections = maxDetections
    }
}

/// Left, top, right and bottom, in pixels.
public struct Box {
    public let x1, y1, x2, y2: Float
}

/// An object; `label` is an index into `class_names`.
public struct Detection {
    public let box: Box
    public let score: Float
    public let label: Int
}

/// A class and how probable it is.
public struct Named {
    public let label: Int
    public let score: Float
}

/// Non-maximum suppression: choose the best boxes of each class, best first.
///
/// - Parameters:
///   - boxes: `anchor_boxes`: four numbers for each anchor, pixels of the input.
///   - scores: `class_scores`: for each anchor one number for each class.
///   - classes: How many classes there are.
///   - input: The size of the input.
///   - picture: The size of the picture that was stretched to it; the boxes returned are in its pixels.
public func detections(
    boxes: [Float], scores: [Float], classes: Int, decoding: Decoding, input: Size, picture: Size
) -> [Detection] {
    let pairs = scores.indices.filter { scores[$0] > decoding.scoreThreshold }
        .sorted { scores[$0] == scores[$1] ? $0 < $1 : scores[$0] > scores[$1] }  // equal scores stay in their order
        .prefix(decoding.maxCandidates)
    var kept = [Detection]()
    var ofClass = [[Box]](repeating: [], count: classes)
    for pair in pairs {
        if kept.count == decoding.maxDetections { break }
        let (at, label) = (4 * (pair / classes), pair % classes)
        let box = Box(x1: boxes[at], y1: boxes[at + 1], x2: boxes[at + 2], y2: boxes[at + 3])
        let isEmpty = !(box.x2 > box.x1 && box.y2 > box.y1)
        if isEmpty || ofClass[label].count == decoding.maxPerClass { continue }
        if ofClass[label].contains(where: { overlap($0, box, by: decoding.iouThreshold) }) { continue }
        ofClass[label].append(box)
        kept.append(Detection(box: move(box, from: input, to: picture), score: scores[pair], label: label))
    }
    return kept
}

/// Whether the shared area is more than a part of that which both cover together.
private func overlap(_ one: Box, _ other: Box, by threshold: Float) -> Bool {
    let width = max(min(one.x2, other.x2) - max(one.x1, other.x1), 0)
    let height = max(min(one.y2, other.y2) - max(one.y1, other.y1), 0)
    let shared = width * height
    return shared > threshold * (area(one) + area(other) - shared)
}

private func area(_ box: Box) -> Float { (box.x2 - box.x1) * (box.y2 - box.y1) }

private func move(_ box: Box, from input: Size, to picture: Size) -> Box {
    let across = Double(picture.width) / Double(input.width)
    let down = Double(picture.height) / Double(input.height)
    func moved(_ value: Float, _ scale: Double) -> Float { Float(Double(value) * scale) }
    return Box(
        x1: moved(box.x1, across), y1: moved(box.y1, down), x2: moved(box.x2, across), y2: moved(box.y2, down))
}

/// Bring `classes`, a map of the input, back to the picture, each pixel from the nearest.
///
/// - Parameters:
///   - map: A label for each pixel of the input, row by row.
///   - input: The size of the input.
///   - picture: The size of the picture.
///   - resizing: How the picture was brought to the input.
public func restoreMap(_ map: [UInt8], input: Size, picture: Size, resizing: Resizing) -> [UInt8] {
    let shown = placedSize(picture, input: input, resizing: resizing)
    let columns = nearest(old: shown.width, new: picture.width)
    return nearest(old: shown.height, new: picture.height).flatMap { row in
        columns.map { map[row * input.width + $0] }
    }
}

/// Which of the old pixels of a row is nearest to each new one. Added up rather than multiplied, as Pillow does.
private func nearest(old: Int, new: Int) -> [Int] {
    let step = Double(old) / Double(new)
    var position = step / 2
    return (0..<new).map { _ in
        defer { position += step }
        return min(Int(position), old - 1)
    }
}

/// The `count` likeliest classes of a picture from `probabilities`, best first.
public func top(_ probabilities: [Float], count: Int = 5) -> [Named] {
    probabilities.indices
        .sorted { probabilities[$0] == probabilities[$1] ? $0 < $1 : probabilities[$0] > probabilities[$1] }
        .prefix(count)
        .map { Named(label: $0, score: probabilities[$0]) }
}
