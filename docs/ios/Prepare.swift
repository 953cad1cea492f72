// From a picture to the pixels that an exported file takes: the same, to the byte, as mbdet computes in Python.

/// A picture, upright: three bytes for each pixel, red, green and blue, row by row from the top.
public struct Picture {
    public let size: Size
    public let rgb: [UInt8]

    public init(size: Size, rgb: [UInt8]) {
        precondition(rgb.count == 3 * size.height * size.width, "a picture has three bytes for each pixel")
        self.size = size
        self.rgb = rgb
    }
}

/// Height and width.
public struct Size: Equatable {
    public let height: Int
    public let width: Int

    public init(height: Int, width: Int) {
        self.height = height
        self.width = width
    }
}

/// `resize` in the description of a file.
public enum Resizing: String, Decodable {
    case stretch, fit, pad
}

/// Bring a picture to the input of a network; `crop` is `central_crop` in the description, 1 where it has none.
public func prepare(_ picture: Picture, input: Size, resizing: Resizing, crop: Double = 1) -> Picture {
    place(centralCrop(picture, fraction: crop), input: input, resizing: resizing)
}

/// Cut the central part out: `fraction` of the height and of the width.
public func centralCrop(_ picture: Picture, fraction: Double) -> Picture {
    let (height, width) = (picture.size.height, picture.size.width)
    let (top, left) = (margin(height, fraction), margin(width, fraction))
    if top == 0 && left == 0 { return picture }
    var rgb = [UInt8]()
    for row in top..<(height - top) {
        let start = 3 * (row * width + left)
        rgb += picture.rgb[start..<(start + 3 * (width - 2 * left))]
    }
    return Picture(size: Size(height: height - 2 * top, width: width - 2 * left), rgb: rgb)
}

private func margin(_ side: Int, _ fraction: Double) -> Int {
    min(Int(Double(side) * (1 - fraction) / 2), (side - 1) / 2)
}

/// Height and width of the part of the input, at its top left, that shows a picture.
public func placedSize(_ picture: Size, input: Size, resizing: Resizing) -> Size {
    if resizing == .stretch { return input }
    let zoom = min(Double(input.height) / Double(picture.height), Double(input.width) / Double(picture.width))
    if resizing == .pad && zoom >= 1 { return picture }
    func zoomed(_ side: Int, _ limit: Int) -> Int {
        max(1, min(Int((Double(side) * zoom).rounded(.toNearestOrEven)), limit))
    }
    return Size(height: zoomed(picture.height, input.height), width: zoomed(picture.width, input.width))
}

/// What the picture leaves free is filled with this: `padding_color` in the description.
private let meanColour: [UInt8] = [124, 116, 104]

/// Bring a picture into the input of a network.
public func place(_ picture: Picture, input: Size, resizing: Resizing) -> Picture {
    let shown = placedSize(picture.size, input: input, resizing: resizing)
    let resized = resize(picture, to: shown)
    if shown == input { return resized }
    var rgb = [UInt8]()
    for row in 0..<input.height {
        if row < shown.height {
            rgb += resized.rgb[(3 * row * shown.width)..<(3 * (row + 1) * shown.width)]
        }
        for _ in (row < shown.height ? shown.width : 0)..<input.width {
            rgb += meanColour
        }
    }
    return Picture(size: input, rgb: rgb)
}

/// Resize as Pillow's BILINEAR does, the width first: each new pixel is a mean of all old ones that it covers, weighted by
/// a triangle.
///
/// Core Graphics, Vision and Core Image each resize in another way.
public func resize(_ picture: Picture, to size: Size) -> Picture {
    var now = picture
    if now.size.width != size.width { now = resizeRows(now, width: size.width) }
    if now.size.height != size.height { now = transpose(resizeRows(transpose(now), width: size.height)) }
    return now
}

private let bits = 22  // behind the point, in whole numbers that stand for fractions

private func resizeRows(_ picture: Picture, width: Int) -> Picture {
    let (height, old) = (picture.size.height, picture.size.width)
    let triangles = (0..<width).map { triangle(old: old, new: width, index: $0) }
    var rgb = [UInt8](repeating: 0, count: 3 * height * width)
    for row in 0..<height {
        for (column, (first, weights)) in triangles.enumerated() {
            for colour in 0..<3 {
                var sum = 1 << (bits - 1)  // a half, so that cutting the bits off rounds
                var from = 3 * (row * old + first) + colour
                for weight in weights {
                    sum += Int(picture.rgb[from]) * weight
                    from += 3
                }
                rgb[3 * (row * width + column) + colour] = UInt8(min(sum >> bits, 255))
            }
        }
    }
    return Picture(size: Size(height: height, width: width), rgb: rgb)
}

/// Which old pixels, from the first on, make up a new one of a row, and with which weights.
private func triangle(old: Int, new: Int, index: Int) -> (first: Int, weights: [Int]) {
    let scale = Double(old) / Double(new)
    let reach = max(scale, 1)
    let centre = (Double(index) + 0.5) * scale
    let first = max(Int(centre - reach + 0.5), 0)
    let end = min(Int(centre + reach + 0.5), old)
    let shares = (first..<end).map { max(0, 1 - abs((Double($0) - centre + 0.5) * (1 / reach))) }
    let sum = shares.reduce(0, +)
    return (first, shares.map { Int(0.5 + $0 / sum * Double(1 << bits)) })
}

private func transpose(_ picture: Picture) -> Picture {
    let (height, width) = (picture.size.height, picture.size.width)
    var rgb = [UInt8](repeating: 0, count: picture.rgb.count)
    for row in 0..<height {
        for column in 0..<width {
            for colour in 0..<3 {
                rgb[3 * (column * height + row) + colour] = picture.rgb[3 * (row * width + column) + colour]
            }
        }
    }
    return Picture(size: Size(height: width, width: height), rgb: rgb)
}
