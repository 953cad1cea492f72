// What an exported file says of itself, and what it found in a picture.

/// What an app must know of a file's description.
public struct Description: Decodable {
    public struct Input: Decodable {
        public let size: [Int]
        public let resize: Resizing
        public let centralCrop: Double?
    }

    public let task: String
    public let input: Input
    /// Of a file that finds objects.
    public let decoding: Decoding?
    /// Names of the labels of objects and of whole pictures; of pixels too, but for a multitask file.
    public let classNames: [String]
    /// Names of the labels of pixels in a multitask file.
    public let segmentNames: [String]?

    /// Names of the labels of pixels.
    public var pixelNames: [String] { segmentNames ?? classNames }
    public var size: Size { Size(height: input.size[0], width: input.size[1]) }
}

/// What a file found in a picture: ask for that which its task gives.
public struct Found {
    let description: Description
    /// Of the picture.
    let size: Size
    /// The outputs by name, but for `classes`.
    let numbers: [String: [Float]]
    /// The output `classes`, if there is one.
    let classes: [UInt8]?

    /// The objects, best first, with boxes in the pixels of the picture.
    public func objects(scoreThreshold: Float = 0.5) -> [Detection] {
        detections(
            boxes: numbers["anchor_boxes"]!, scores: numbers["class_scores"]!, classes: description.classNames.count,
            decoding: description.decoding!, input: description.size, picture: size
        ).filter { $0.score >= scoreThreshold }
    }

    /// The label of each pixel of the picture, row by row: an index into `pixelNames` of the description.
    public func labels() -> [UInt8] {
        restoreMap(classes!, input: description.size, picture: size, resizing: description.input.resize)
    }

    /// The likeliest classes of the whole picture, best first.
    public func names() -> [Named] {
        // The probabilities of a segmenter are those of pixels.
        precondition(description.task == "classification", "names() needs a classifier, not \(description.task)")
        return top(numbers["probabilities"]!)
    }
}
