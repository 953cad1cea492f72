// Core ML as engine of an exported package: what needs Apple's own frameworks.

import CoreGraphics
import CoreML
import CoreVideo
import Foundation

/// A package ready for use. Use it on one thread, not the main one.
public final class Model {
    public enum Failure: Error {
        case notFromMbdet, noMemory
    }

    public let description: Description
    private let model: MLModel

    /// - Parameter url: The compiled package, which is what Xcode puts into the app: `NAME.mlmodelc`.
    public init(compiled url: URL, units: MLComputeUnits = .all) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        model = try MLModel(contentsOf: url, configuration: configuration)
        let own = model.modelDescription.metadata[.creatorDefinedKey] as? [String: String]
        guard let text = own?["mbdet"] else { throw Failure.notFromMbdet }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        description = try decoder.decode(Description.self, from: Data(text.utf8))
    }

    public func find(_ picture: Picture) throws -> Found {
        let shown = prepare(
            picture, input: description.size, resizing: description.input.resize,
            crop: description.input.centralCrop ?? 1)
        let images = MLFeatureValue(pixelBuffer: try pixelBuffer(shown))
        let outputs = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: ["images": images]))
        var numbers = [String: [Float]]()
        var classes: [UInt8]?
        for name in outputs.featureNames {
            guard let array = outputs.featureValue(for: name)?.multiArrayValue else { continue }
            // Not the array's memory itself, whose rows may have gaps.
            if name == "classes" {
                classes = MLShapedArray<Int32>(array).scalars.map { UInt8($0) }
            } else {
                numbers[name] = MLShapedArray<Float>(array).scalars
            }
        }
        return Found(description: description, size: picture.size, numbers: numbers, classes: classes)
    }
}

/// Take the pixels of an image, which must be upright.
public func picture(_ image: CGImage) throws -> Picture {
    let size = Size(height: image.height, width: image.width)
    var rgba = [UInt8](repeating: 0, count: 4 * size.height * size.width)
    let drawn = rgba.withUnsafeMutableBytes { memory in
        let context = CGContext(
            data: memory.baseAddress, width: size.width, height: size.height, bitsPerComponent: 8,
            bytesPerRow: 4 * size.width, space: CGColorSpace(name: CGColorSpace.sRGB)!,
            bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
        context?.draw(image, in: CGRect(x: 0, y: 0, width: size.width, height: size.height))
        return context != nil
    }
    guard drawn else { throw Model.Failure.noMemory }
    return Picture(size: size, rgb: (0..<(3 * size.height * size.width)).map { rgba[4 * ($0 / 3) + $0 % 3] })
}

private func pixelBuffer(_ picture: Picture) throws -> CVPixelBuffer {
    let (height, width) = (picture.size.height, picture.size.width)
    var created: CVPixelBuffer?
    CVPixelBufferCreate(nil, width, height, kCVPixelFormatType_32BGRA, nil, &created)
    guard let buffer = created else { throw Model.Failure.noMemory }
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    let bytes = CVPixelBufferGetBaseAddress(buffer)!.assumingMemoryBound(to: UInt8.self)
    let rowBytes = CVPixelBufferGetBytesPerRow(buffer)
    for row in 0..<height {
        for column in 0..<width {
            let (from, to) = (3 * (row * width + column), row * rowBytes + 4 * column)
            for colour in 0..<3 { bytes[to + 2 - colour] = picture.rgb[from + colour] }
            bytes[to + 3] = 255
        }
    }
    return buffer
}
