// Computes what it reads a line of for each case, so that Python can compare it.

import Foundation

/// Read a description as the package has it, so that its keys are checked too.
func describe(_ json: String) throws -> Description {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Description.self, from: Data(json.utf8))
}

/// What a file of so many classes found, given its outputs.
func found(
    _ input: Size, _ picture: Size, _ classes: Int, _ outputs: [String: [Float]], resizing: String = "stretch",
    decoding: String = "null"
) throws -> Found {
    let names = (0..<classes).map { "\"\($0)\"" }.joined(separator: ",")
    let size = "{\"size\": [\(input.height), \(input.width)], \"resize\": \"\(resizing)\"}"
    let json = "{\"input\": \(size), \"class_names\": [\(names)], \"decoding\": \(decoding)}"
    return Found(description: try describe(json), size: picture, numbers: outputs, classes: nil)
}

while let line = readLine() {
    var words = line.split(separator: " ").makeIterator()
    func word() -> String { String(words.next()!) }
    func int() -> Int { Int(word())! }
    func float() -> Float { Float(word())! }
    func size() -> Size { Size(height: int(), width: int()) }
    func floats(_ count: Int) -> [Float] { (0..<count).map { _ in float() } }
    var results = [String]()
    switch word() {
    case "prepare":
        let (size, input, resizing) = (size(), size(), Resizing(rawValue: word())!)
        let crop = Double(word())!
        let rgb = (0..<(3 * size.height * size.width)).map { _ in UInt8(int()) }
        let found = prepare(Picture(size: size, rgb: rgb), input: input, resizing: resizing, crop: crop)
        results = (0..<3).flatMap { colour in
            stride(from: colour, to: found.rgb.count, by: 3).map { String(found.rgb[$0]) }
        }
    case "detections":
        let (input, picture, anchors, classes) = (size(), size(), int(), int())
        let keys = ["score_threshold", "iou_threshold", "max_candidates", "max_per_class", "max_detections"]
        let decoding = "{" + keys.map { "\"\($0)\": \(word())" }.joined(separator: ",") + "}"
        let outputs = ["anchor_boxes": floats(4 * anchors), "class_scores": floats(anchors * classes)]
        results = try found(input, picture, classes, outputs, decoding: decoding).objects(
            scoreThreshold: 0
        ).map { "\($0.label) \($0.score) \($0.box.x1) \($0.box.y1) \($0.box.x2) \($0.box.y2)" }
    case "map":
        let (input, picture, resizing, classes) = (size(), size(), word(), int())
        let outputs = ["probabilities": floats(classes * input.height * input.width)]
        results = try found(input, picture, classes, outputs, resizing: resizing).labels().map(String.init)
    default:
        let (one, count) = (Size(height: 1, width: 1), int())
        results = try found(one, one, count, ["probabilities": floats(count)]).names().map {
            "\($0.label) \($0.score)"
        }
    }
    print(results.joined(separator: " "))
}
