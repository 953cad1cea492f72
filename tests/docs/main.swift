// Computes what it reads a line of for each case, so that Python can compare it.

import Foundation

/// Describe a file of so many classes, which are called by their labels; those of a multitask file are of pixels.
///
/// The description is read as the package has it, so that its keys are checked too.
func describe(
    _ task: String, _ input: Size, _ classes: Int, resizing: String = "stretch", decoding: String = "null"
) throws -> Description {
    let names = "[" + (0..<classes).map { "\"\($0)\"" }.joined(separator: ",") + "]"
    let (classNames, segmentNames) = task == "multitask" ? ("[\"object\"]", names) : (names, "null")
    let size = "{\"size\": [\(input.height), \(input.width)], \"resize\": \"\(resizing)\"}"
    let json =
        "{\"task\": \"\(task)\", \"input\": \(size), \"decoding\": \(decoding), "
        + "\"class_names\": \(classNames), \"segment_names\": \(segmentNames)}"
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Description.self, from: Data(json.utf8))
}

while let line = readLine() {
    var words = line.split(separator: " ").makeIterator()
    func word() -> String { String(words.next()!) }
    func int() -> Int { Int(word())! }
    func float() -> Float { Float(word())! }
    func size() -> Size { Size(height: int(), width: int()) }
    func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(int()) } }
    func floats(_ count: Int) -> [Float] { (0..<count).map { _ in float() } }
    var results = [String]()
    switch word() {
    case "prepare":
        let (size, input, resizing) = (size(), size(), Resizing(rawValue: word())!)
        let crop = Double(word())!
        let rgb = bytes(3 * size.height * size.width)
        let found = prepare(Picture(size: size, rgb: rgb), input: input, resizing: resizing, crop: crop)
        results = (0..<3).flatMap { colour in
            stride(from: colour, to: found.rgb.count, by: 3).map { String(found.rgb[$0]) }
        }
    case "detections":
        let (input, picture, anchors, classes) = (size(), size(), int(), int())
        let keys = ["score_threshold", "iou_threshold", "max_candidates", "max_per_class", "max_detections"]
        let decoding = "{" + keys.map { "\"\($0)\": \(word())" }.joined(separator: ",") + "}"
        let outputs = ["anchor_boxes": floats(4 * anchors), "class_scores": floats(anchors * classes)]
        let description = try describe("detection", input, classes, decoding: decoding)
        let found = Found(description: description, size: picture, numbers: outputs, classes: nil)
        results = found.objects(scoreThreshold: 0).map {
            "\($0.label) \($0.score) \($0.box.x1) \($0.box.y1) \($0.box.x2) \($0.box.y2)"
        }
    case "map":
        let (task, input, picture, resizing, count) = (word(), size(), size(), word(), int())
        let description = try describe(task, input, count, resizing: resizing)
        let found = Found(
            description: description, size: picture, numbers: [:], classes: bytes(input.height * input.width))
        results = found.labels().map { description.pixelNames[Int($0)] }
    default:
        let (one, task, count) = (Size(height: 1, width: 1), word(), int())
        let description = try describe(task, one, count)
        let found = Found(
            description: description, size: one, numbers: ["probabilities": floats(count)], classes: nil)
        results = found.names().map { "\($0.label) \($0.score)" }
    }
    print(results.joined(separator: " "))
}
