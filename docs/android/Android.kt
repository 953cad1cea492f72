/** What needs Android's own classes: pictures and descriptions. */
package mbdet

import android.content.res.AssetManager
import android.graphics.Bitmap
import org.json.JSONArray
import org.json.JSONObject

/** Read `FILE.json`, which the export writes beside a file, from the assets. */
fun readDescription(assets: AssetManager, name: String): Description {
    val all = JSONObject(assets.open(name).bufferedReader().use { it.readText() })
    val input = all.getJSONObject("input")
    val decoding = all.optJSONObject("decoding")
    return Description(
        task = all.getString("task"),
        // In the order of the file, which Android's own JSONObject keeps.
        outputs = all.getJSONObject("output").keys().asSequence().toList(),
        input = Size(input.getJSONArray("size").getInt(0), input.getJSONArray("size").getInt(1)),
        resizing = Resizing.valueOf(input.getString("resize").uppercase()),
        crop = input.optDouble("central_crop", 1.0),
        decoding = decoding?.let {
            Decoding(
                it.getDouble("score_threshold").toFloat(),
                it.getDouble("iou_threshold").toFloat(),
                it.getInt("max_candidates"),
                it.getInt("max_per_class"),
                it.getInt("max_detections"),
            )
        },
        classNames = strings(all.getJSONArray("class_names")),
        segmentNames = all.optJSONArray("segment_names")?.let(::strings),
    )
}

private fun strings(array: JSONArray): List<String> = List(array.length()) { array.getString(it) }

/** Take the pixels of a bitmap, which must be upright and in software memory (not `Bitmap.Config.HARDWARE`). */
fun toPicture(bitmap: Bitmap): Picture {
    val (height, width) = Pair(bitmap.height, bitmap.width)
    val rgb = ByteArray(3 * height * width)
    val pixels = IntArray(width) // of one row, as those of all would take as much memory as the bitmap
    for (row in 0 until height) {
        bitmap.getPixels(pixels, 0, width, 0, row, width, 1)
        for (column in 0 until width) {
            // Red is in the third byte of a number, green in the second, blue in the first.
            for (colour in 0 until 3) {
                rgb[3 * (row * width + column) + colour] = (pixels[column] shr (16 - 8 * colour)).toByte()
            }
        }
    }
    return Picture(height, width, rgb)
}
